"""Retrieval of classes that training never saw: unseen digits.

Training, validation and test classes are disjoint. On held-out rows of the training classes the metric goes on rising
while it falls on new ones, and would choose the wrong epoch. Of six digits none can be spared, so their
validation part is held-out rows in the mirror: six shapes that training never saw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.tasks.digits import read_digits
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Part, Splits, standardise
from metricgrad.tasks.task import Task

TEST_DIGITS = (6, 7, 8, 9)
SIDE = 8
SHARE = 0.8
WIDTH = 4


def _digits(seed: int) -> Splits:
    """Four fifths of the digits 0 to 5, the other fifth in the mirror, and four fifths of the digits 6 to 9."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = read_digits()
    known = targets < min(TEST_DIGITS)
    train, (images, digits) = _cut(inputs[known], targets[known], generator)
    mirrored = images.unflatten(1, (SIDE, SIDE)).flip(2).flatten(1)
    test, _ = _cut(inputs[~known], targets[~known], generator)
    return standardise(Splits(train, (mirrored, digits + 10), test), features=False)


def _cut(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Part, Part]:
    """Four fifths of the rows, and the others."""
    order = torch.randperm(len(targets), generator=generator)
    first, second = order[: round(SHARE * len(order))], order[round(SHARE * len(order)) :]
    return (inputs[first], targets[first]), (inputs[second], targets[second])


def _digit_model() -> nn.Module:
    return mlp(64, WIDTH)


digits_retrieval = Task(
    "digits-retrieval",
    model=_digit_model,
    load=_digits,
    metric="retrieval_recall:k=1",
    kind="retrieval",
    device="cpu",
    batch_size=72,
    per_class=12,
    summary="embeddings of 4 numbers: learned on the digits 0 to 5, chosen on mirrored ones, judged on 6 to 9",
)
