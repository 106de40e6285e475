"""Sentences of Python's own manual as a text to classify, and a transformer of a few hundred weights to do it."""

from __future__ import annotations

import re
import zlib
from pydoc_data.topics import topics

import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

VOCABULARY, LENGTH, PADDING = 200, 12, 0
SUBJECTS = ("formatstrings", "import", "objects")
TAGS = 3


def sentences(subject):
    """Word lists of a chapter."""
    found = [re.findall(r"[A-Za-z]+", part) for part in re.split(r"[.:\n]{2,}|\. ", topics[subject])]
    return [words[:LENGTH] for words in found if len(words) >= 4]


def tag(word):
    """0 in small letters, 1 with a capital, 2 in capitals."""
    return 2 if word.isupper() and len(word) > 1 else int(word[0].isupper())


def encoded(words):
    """Numbers of the words in small letters, and what is padding."""
    ids = [1 + zlib.crc32(word.lower().encode()) % (VOCABULARY - 1) for word in words]
    rest = LENGTH - len(ids)
    return {"input_ids": ids + [PADDING] * rest, "attention_mask": [1] * len(ids) + [0] * rest}


def classified(most=24):
    """Of which chapter is the sentence?"""
    rows = [
        {**encoded(words), "labels": label}
        for label, subject in enumerate(SUBJECTS) for words in sentences(subject)[:most]
    ]  # fmt: skip
    return [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()]


def tagged(most=24):
    """Which words had capitals? -100 where there is none."""
    return [
        {**encoded(words), "labels": [tag(word) for word in words] + [-100] * (LENGTH - len(words))}
        for subject in SUBJECTS for words in sentences(subject)[:most]
    ]  # fmt: skip


def model(kind, labels=3):
    """Random weights, nothing from a network."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH, num_labels=labels, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
    )  # fmt: skip
    return {"sequence": BertForSequenceClassification, "token": BertForTokenClassification}[kind](config)
