"""Calls of the metric under probe: counted, compared within rounding, and only where it varies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.probing.batch import ProbeBatch
from metricgrad.refactoring.probing.scores import graded_scores

BUDGET = 200

_ROUNDING = 1e-5
_PREFERRED = (3, 2, 4, 5, 1, 6, 7)
"""Score sets in the order in which they are redrawn: those in the middle first, and never the ideal one, whose value
many configurations share."""


class BudgetSpentError(MetricgradError):
    """The metric has been called as often as it may be."""


@dataclass(frozen=True)
class Trial:
    """One invariance that was tried.

    Attributes:
        invariance: what was kept while everything else changed.
        verdict: ``"held"``, ``"broken"``, or ``"no evidence"`` where the metric raised or had nothing to show.
        detail: how many redraws, or the values that differ.
    """

    invariance: str
    verdict: Literal["held", "broken", "no evidence"]
    detail: str


class Caller:
    """A metric on one batch of targets, and its values on scores of graded quality.

    Args:
        metric: under probe.
        batch: the targets it is called with.
        generator: of everything drawn.
        calls: how often it has been called before.
    """

    def __init__(self, metric: Metric, batch: ProbeBatch, generator: torch.Generator, calls: int = 0) -> None:
        self.metric = metric
        self.batch = batch
        self.generator = generator
        self.calls = calls
        self.error = ""
        self.bases = graded_scores(batch, generator)
        self.values = [self.value(base) for base in self.bases]
        finite = [v for v in self.values if v is not None and v == v and abs(v) != torch.inf]
        scale, spread = max(map(abs, finite), default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
        self._slack = min(_ROUNDING * scale, 0.01 * spread)
        self.varies = spread > 1e-6 * scale
        self.finite = finite
        self.alive = [i for i in _PREFERRED if self._is_alive(i)] if self.varies else []

    def value(self, scores: Tensor) -> float | None:
        """The metric's value, or None where it raises."""
        self.count()
        try:
            return float(self.metric(*self.batch.as_called(scores), **self.batch.context))
        except Exception as error:  # whatever a foreign callable raises is a fact about this one probe
            self.error = self.error or f"{type(error).__name__}: {error}"
            return None

    def count(self) -> None:
        """Count one call, and stop at the budget."""
        if self.calls >= BUDGET:
            raise BudgetSpentError(f"metric {self.metric.name!r} was called {BUDGET} times without a finding")
        self.calls += 1

    def same(self, a: float, b: float) -> bool:
        """Equal up to rounding; NaN equals nothing."""
        return abs(a - b) <= self._slack

    def trial(self, name: str, redraw: Callable[[Tensor, torch.Generator], Tensor], draws: int | None = None) -> Trial:
        """Redraw score sets on which the metric varies, until its value changes or the draws are used up.

        Args:
            name: the invariance in words.
            redraw: keeps it.
            draws: how many; by default 16, and 32 for a metric of three values or fewer, which agree by chance.
        """
        coarse = len({round(v / (self._slack or 1)) for v in self.finite}) <= 3
        draws = draws or (32 if coarse else 16)
        seen = 0
        for draw in range(draws if self.alive else 0):
            index = self.alive[draw % len(self.alive)]
            base = self.bases[index]
            changed = redraw(base, self.generator)
            if torch.equal(changed, base):
                continue
            value, before = self.value(changed), self.values[index]
            if value is None or before is None:
                continue
            if not self.same(value, before):
                return Trial(name, "broken", f"{before:.4g} became {value:.4g} at redraw {seen + 1}")
            seen += 1
        if seen < min(3, draws):
            why = f"the metric raised {self.error}" if self.error else "there was nothing to redraw"
            return Trial(name, "no evidence", why)
        return Trial(name, "held", f"{seen} redraws of {min(len(self.alive), seen)} score sets")

    def _is_alive(self, index: int) -> bool:
        """Whether the value differs from that of a score set of similar quality."""
        value = self.values[index]
        near = [self.values[i] for i in (index - 1, index + 1) if i < len(self.values)]
        return value is not None and any(v is not None and abs(v - value) > self._slack for v in near)
