"""What each decision is worth to a metric of labels that can only be called, kept up to date while training runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.losses.interpolated.memory import Remembered
from metricgrad.metrics.class_utilities import ClassUtilities, TableUtilities, Utilities
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.utilities import called_of_labels
from metricgrad.precision import FullPrecision, wide_dtype

_NEW = 0.3
_MOST_CLASSES = 64


class UtilityTable(FullPrecision):
    r""":math:`V_{yb}`: what it is worth to decide rows of target y as b; only differences within a row mean anything.

    A twentieth of the rows of one target is sent to each class in turn, as many targets and classes a step as the calls
    allow, and the answers are moving means; what was never asked is worth as much as what is decided now. Nothing is
    asked while all targets are the same. Of more than 64 classes only the worth of the right one is asked for, and all
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
        self.register_buffer("seen", torch.zeros(0, 0, dtype=torch.bool))
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
        if self.values.shape != (classes, self._columns(classes)):
            self._begin(classes)
        if keep:
            there = at.weight > 0
            self._ask(Remembered(at.values[there], at.targets[there], at.weight[there]), classes, columns, calls)
        if self._columns(classes) > 1:
            return TableUtilities(self.values)
        right = self.values[:, 0]
        return ClassUtilities(torch.zeros_like(right), right)

    def forget(self) -> None:
        """As it was before the first step."""
        self.values.zero_()
        self.seen.zero_()

    def _columns(self, classes: int) -> int:
        return classes if classes <= _MOST_CLASSES else 1

    def _begin(self, classes: int) -> None:
        device, shape = self.turn.device, (classes, self._columns(classes))
        self.values = torch.zeros(shape, dtype=wide_dtype(device), device=device)
        self.seen = torch.zeros(shape, dtype=torch.bool, device=device)

    def _ask(self, at: Remembered, classes: int, columns: int, calls: int) -> None:
        """Ask of as many targets as the calls allow, in turn, and of some classes in turn where there are more."""
        present = at.targets.unique()
        if len(present) == 1:
            return  # it would teach mistakes where the metric has its worst value for right decisions, as specificity
        whole, weighted = self._columns(classes) > 1, "sample_weight" in self._metric.context
        weight = at.weight if weighted and not bool((at.weight == 1).all()) else None
        answers = min(classes, max(1, calls - 1)) if whole else 2
        parts = -(-classes // answers) if whole else 1
        for _ in range(min(len(present) * parts, max(1, calls // (answers + 1)))):
            start, turn = divmod(int(self.turn), len(present) * parts)
            part, of = turn // len(present), int(present[turn % len(present)])
            asked = slice(part * answers, min(classes, (part + 1) * answers)) if whole else slice(0, 1)
            to = torch.arange(classes, device=present.device)[asked] if whole else _another(of, classes, present)
            found = called_of_labels(
                self._metric, at.values, at.targets, columns, of=of, to=to, start=start, weight=weight
            )
            found = found if whole else found[:1] - found[1:]
            seen, known = self.seen[of, asked], self.values[of, asked]
            self.values[of, asked] = torch.where(seen, torch.lerp(known, found, _NEW), found)
            self.seen[of, asked] = True
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
