"""What each decision is worth to a metric of labels that can only be called, kept up to date while training runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.losses.interpolated.memory import Remembered
from metricgrad.metrics.class_utilities import ClassUtilities, TableUtilities, Utilities
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.utilities import called_of_labels

_NEW = 0.3
_MOST_CLASSES = 64


class UtilityTable(nn.Module):
    r""":math:`V_{yb}`: what it is worth to decide rows of target y as b; only differences within a row mean anything.

    A twentieth of the rows of one target is sent to each class in turn, as many targets a step as the calls allow, and
    the answers are moving means. Of more than 64 classes only the worth of the right one is then asked for, and all
    others share the row's 0.

    Args:
        metric: of labels.
    """

    values: Tensor
    seen: Tensor
    turn: Tensor

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        self.register_buffer("values", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))
        self.register_load_state_dict_pre_hook(_as_large_as_saved)

    @torch.no_grad()
    def of(self, at: Remembered, classes: int, calls: int, *, columns: int, keep: bool) -> Utilities:
        """Where the metric stands at these decisions.

        Args:
            at: decisions and targets of the last rows, whole numbers.
            classes: C.
            calls: how many in this step.
            columns: of the scores: 1 where two classes are told by one score.
            keep: whether to learn from this step.
        """
        if self.values.shape != (classes, classes if self._whole(classes) else 1) or len(self.seen) != classes:
            self._begin(classes)
        if keep:
            there = at.weight > 0
            self._ask(Remembered(*(part[there] for part in at)), classes, columns, calls)
        if self._whole(classes):
            return TableUtilities(self.values)
        right = self.values[:, 0]
        return ClassUtilities(torch.zeros_like(right), right)

    def _whole(self, classes: int) -> bool:
        return classes <= _MOST_CLASSES

    def _begin(self, classes: int) -> None:
        device = self.turn.device
        columns = classes if self._whole(classes) else 1
        self.values = torch.zeros(classes, columns, dtype=torch.float64, device=device)
        self.seen = torch.zeros(classes, dtype=torch.bool, device=device)

    def _ask(self, at: Remembered, classes: int, columns: int, calls: int) -> None:
        """Ask of as many targets as the calls allow, in turn."""
        present = at.targets.unique()
        answers = self.values.shape[1] if self._whole(classes) else 2
        weight = None if bool((at.weight == 1).all()) or "sample_weight" not in self._metric.context else at.weight
        for _ in range(min(len(present), max(1, calls // (answers + 1)))):
            of = int(present[int(self.turn) % len(present)])
            to = (
                torch.arange(classes, device=present.device) if self._whole(classes) else _another(of, classes, present)
            )
            start = int(self.turn) // len(present)
            found = called_of_labels(
                self._metric, at.values, at.targets, columns, of=of, to=to, start=start, weight=weight
            )
            found = found if self._whole(classes) else found[:1] - found[1:]
            self.values[of] = torch.lerp(self.values[of], found, _NEW) if bool(self.seen[of]) else found
            self.seen[of] = True
            self.turn += 1


def _as_large_as_saved(table: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Room for as many classes as the saved training had met."""
    assert isinstance(table, UtilityTable)
    for name in ("values", "seen"):
        if isinstance(saved := state_dict.get(prefix + name), Tensor):
            setattr(table, name, torch.zeros_like(saved, device=table.turn.device))


def _another(of: int, classes: int, present: Tensor) -> Tensor:
    """``(2,)``: the class itself, and one that rows are wrongly decided as."""
    other = int(present[0]) if int(present[0]) != of else (of + 1) % classes
    return torch.tensor([of, other], device=present.device)
