"""scikit-learn's breast cancer (569 tumours, 30 features) and diabetes (442 patients, 10 features)."""

from __future__ import annotations

import torch
from torch import nn

from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise
from metricgrad.tasks.task import Task, to_float


def _breast_cancer(seed: int) -> Splits:
    from sklearn.datasets import load_breast_cancer

    inputs, benign = load_breast_cancer(return_X_y=True)
    return standardise(split(to_float(inputs), 1 - torch.as_tensor(benign).long(), seed, stratify=True))


def _diabetes(seed: int) -> Splits:
    from sklearn.datasets import load_diabetes

    inputs, progress = load_diabetes(return_X_y=True, scaled=False)
    parts = standardise(split(to_float(inputs), to_float(progress), seed))
    mean, deviation = parts.train[1].mean(), parts.train[1].std()
    return Splits(*((inputs, (targets - mean) / deviation) for inputs, targets in parts))


def _cancer_model() -> nn.Module:
    return mlp(30, None, (32,))


def _diabetes_model() -> nn.Module:
    return mlp(10, None, (32,))


breast_cancer = Task(
    "breast-cancer",
    model=_cancer_model,
    load=_breast_cancer,
    metric="f1",
    kind="binary",
    device="cpu",
    epochs=30,
    batch_size=32,
    summary="569 tumours, malignant (37 %) or benign, 30 features",
)
diabetes = Task(
    "diabetes",
    model=_diabetes_model,
    load=_diabetes,
    metric="spearman",
    kind="regression",
    device="cpu",
    epochs=30,
    batch_size=32,
    summary="progression of diabetes in 442 patients, 10 features; standardised targets",
)
