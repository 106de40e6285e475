"""Answers marked in passages of scikit-learn's own documentation, judged by the F1 of their tokens."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import nn

from metricgrad.losses.registry import Range
from metricgrad.tasks.split import Splits
from metricgrad.tasks.task import Task
from tasks.docstring_answers.data import WORDS, docstring_questions
from tasks.docstring_answers.model import SpanReader
from tasks.docstring_answers.squad import SpanQuestions, parse_squad

QUESTION_WORDS = 10
SIZES = (1000, 800, 2000)


@functools.cache
def read_docstring_questions() -> SpanQuestions:
    """The questions, through the reader of SQuAD's layout."""
    return parse_squad(
        docstring_questions(), passage_words=WORDS, question_words=QUESTION_WORDS, source="scikit-learn's docstrings"
    )


def split_articles(data: SpanQuestions, seed: int, sizes: Sequence[int] = SIZES) -> Splits:
    """Draw the articles into three parts in proportion to the sizes, then the questions; no passage is in two parts.

    Args:
        data: the questions.
        seed: decides the draw.
        sizes: the most questions of the training, validation and test part.

    Returns:
        Inputs ``(N, Q + L, 4)``, the question before its passage, and positions ``(N, 2)``.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.titles), generator=generator)
    before = torch.bincount(data.articles, minlength=len(order))[order].cumsum(0) / len(data)
    shares = torch.tensor(sizes).cumsum(0) / sum(sizes)
    part_of = torch.empty_like(order).scatter(0, order, torch.bucketize(before, shares[:-1]))
    of_row = part_of[data.articles]
    parts = []
    for part, size in enumerate(sizes):
        rows = (of_row == part).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:size]]
        parts.append((torch.cat([data.questions[rows], data.passages[rows]], 1), data.positions[rows]))
    return Splits(*parts)


def _drawn(seed: int) -> Splits:
    return split_articles(read_docstring_questions(), seed)


def _model() -> nn.Module:
    return SpanReader(QUESTION_WORDS)


docstring_answers = Task(
    "docstring-answers",
    model=_model,
    load=_drawn,
    metric="span_f1",
    kind="spans",
    device="cpu",
    epochs=12,
    batch_size=32,
    lr=Range(5e-4, 2e-2, default=3e-3),
    summary="type, default and meaning of parameters as spans of scikit-learn's docstrings, split by module",
)
