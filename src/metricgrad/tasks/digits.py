"""scikit-learn's 1,797 digits of 8 x 8 pixels: as they are, with noisy labels, and one digit against the rest."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise, thin
from metricgrad.tasks.task import Task, to_float

NOISE = 0.4
RARE_DIGIT = 8
RARE_RATE = 0.03


@functools.cache
def read_digits() -> tuple[Tensor, Tensor]:
    """1,797 rows of 64 pixels, and their digits."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    return to_float(inputs), torch.as_tensor(targets).long()


def _plain(seed: int) -> Splits:
    return standardise(split(*read_digits(), seed), features=False)


def _noisy(seed: int) -> Splits:
    train, valid, test = _plain(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    flipped = torch.randperm(len(train[1]), generator=generator)[: round(NOISE * len(train[1]))]
    targets = train[1].clone()
    targets[flipped] = (targets[flipped] + torch.randint(1, 10, (len(flipped),), generator=generator)) % 10
    return Splits((train[0], targets), valid, test)


def _rare(seed: int) -> Splits:
    inputs, targets = read_digits()
    positive = targets == RARE_DIGIT
    kept = thin(targets, positive, RARE_RATE, seed)
    return standardise(split(inputs[kept], positive[kept].long(), seed, stratify=True), features=False)


def _ten_scores() -> nn.Module:
    return mlp(64, 10)


def _one_score() -> nn.Module:
    return mlp(64, None)


digits = Task(
    "digits",
    model=_ten_scores,
    load=_plain,
    metric="macro_f1",
    kind="multiclass",
    device="cpu",
    summary="1,797 handwritten digits, ten classes",
)
digits_noisy = Task(
    "digits-noisy",
    model=_ten_scores,
    load=_noisy,
    metric="accuracy",
    kind="multiclass",
    device="cpu",
    clean_valid=True,
    summary="digits with 40 % of the training labels moved to another class; validation and test stay clean",
)
digits_rare = Task(
    "digits-rare",
    model=_one_score,
    load=_rare,
    metric="average_precision",
    kind="binary",
    device="cpu",
    summary="the digit 8 against the rest, thinned to 3 % positives",
)
