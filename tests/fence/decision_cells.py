"""Every decision by its name, fitted for a few metrics on some batches; one that does not serve is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.decisions.kinds import DECISIONS
from tests.fixtures import trainings

_ROWS, _CLASSES = 240, 4
_METRICS = {
    "one score": ("f1", "mcc", "fbeta:beta=2.0", "recall_at_precision", "brier"),
    "labels": ("macro_f1", "samples_f1"),
    "masks": ("dice:background=True",),
    "classes": ("accuracy", "macro_f1", "balanced_accuracy", "quadratic_kappa"),
}


def decision_cells() -> Iterator[tuple[str, Callable[[], dict[str, Tensor]]]]:
    """All: a name that stays, and what it computes."""
    for batch, metrics in _METRICS.items():
        for metric in metrics:
            for method in ("auto", *DECISIONS):
                yield f"decision {method}, {metric}, {batch}", partial(_fitted, method, metric, batch)


def _fitted(method: str, metric: str, batch: str) -> dict[str, Tensor]:
    decision = mg.fit_decision(metric, *_batch(batch, 0), method=method)
    scores, targets = _batch(batch, 1)
    found, judged = decision.findings, decision.judge(mg.as_metric(metric), scores, targets)
    numbers = [torch.nan if number is None else number for number in (found.decided, found.undecided, *judged)]
    made = {"decided": decision(scores), "predicted": decision.predict(scores), "judged": torch.tensor(numbers)}
    return made | {f"state {name}": value for name, value in decision.state_dict().items()}


def _batch(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    scores, targets = _drawn(kind, seed)
    return scores.to(trainings.DEVICE), targets.to(trainings.DEVICE)


def _drawn(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of a half-trained model, whose cut is not at 0, and targets, of which few are positive."""
    generator = torch.Generator().manual_seed(seed)
    shape = {"labels": (_ROWS, 3), "masks": (12, 6, 6)}.get(kind, (_ROWS,))
    if kind == "classes":
        targets = torch.rand(shape, generator=generator).square().mul(_CLASSES).long()
        means = 1.5 * nn.functional.one_hot(targets, _CLASSES)
        return torch.randn(*shape, _CLASSES, generator=generator) + means - torch.arange(_CLASSES) / 2, targets
    targets = (torch.rand(shape, generator=generator) < 0.25).long()
    return torch.randn(shape, generator=generator) + 1.5 * targets - 1.5, targets
