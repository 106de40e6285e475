"""Interface strings from English to Romanian, out of LibreOffice's message catalogues, judged by BLEU."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import Range
from metricgrad.tasks.split import Splits, split
from metricgrad.tasks.task import Task
from tasks.romanian_strings.data import Pair, read_catalogues
from tasks.romanian_strings.model import NonAutoregressive
from tasks.romanian_strings.vocabulary import END, UNKNOWN, Vocabulary, detokenise

LENGTH = 10
SIZE = 2000
METRIC = f"bleu:end={END},unknown={UNKNOWN}"


@dataclass(frozen=True)
class Strings:
    """One draw of the corpus.

    Attributes:
        parts: ``(N, 10)`` numbers of English and of translated words, for training, validation and test.
        words: the vocabulary of the translation.
        references: the translations of each part as text, with the words that the vocabulary does not have.
    """

    parts: Splits
    words: Vocabulary
    references: tuple[list[str], list[str], list[str]]


@functools.cache
def _short() -> list[Pair]:
    """The pairs that fit, an end token included."""
    return [pair for pair in read_catalogues() if max(map(len, pair)) < LENGTH]


def strings(seed: int) -> Strings:
    """Cut the corpus into parts by a seed; both vocabularies are the 1,998 most frequent words of the training part.

    Every English string is in one part alone. Strings of ten words and more are left out.

    Raises:
        MetricgradError: where there are no catalogues, or too few messages to cut.
    """
    pairs = _short()
    if len(pairs) < 10:
        raise MetricgradError(f"the catalogues have {len(pairs)} short messages; a draw needs 10 or more")
    number = torch.arange(len(pairs))
    rows = [[pairs[i] for i in part[0].tolist()] for part in split(number, number, seed)]
    english = Vocabulary((pair[0] for pair in rows[0]), SIZE)
    translated = Vocabulary((pair[1] for pair in rows[0]), SIZE)
    encoded = [
        (english.encode((pair[0] for pair in part), LENGTH), translated.encode((pair[1] for pair in part), LENGTH))
        for part in rows
    ]
    train, valid, test = ([detokenise(pair[1]) for pair in part] for part in rows)
    return Strings(Splits(*encoded), translated, (train, valid, test))


def _parts(seed: int) -> Splits:
    return strings(seed).parts


def model() -> nn.Module:
    """The network of the task: ten places, 2,000 words on either side."""
    return NonAutoregressive(SIZE, SIZE, length=LENGTH, width=64, layers=1)


strings_ro = Task(
    "strings-ro",
    model=model,
    load=_parts,
    metric=METRIC,
    kind="tokens",
    device="cpu",
    epochs=8,
    batch_size=32,
    lr=Range(1e-3, 1e-2, default=3e-3),
    summary="LibreOffice's interface strings of up to nine words from English to Romanian, all words at once",
)
