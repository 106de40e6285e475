"""scikit-learn's 8 x 8 digits."""

from __future__ import annotations

import torch
from torch import nn

from metricgrad.tasks.task import Split, Task, split


def _load(seed: int) -> tuple[Split, Split, Split]:
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    train, valid, test = split(torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(targets), seed)
    return train, valid, test


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


digits = Task("digits", _model, _load, metric="macro_f1", standard="cross_entropy")
