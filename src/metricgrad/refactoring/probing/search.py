"""The order in which readings are tried on a metric, and what follows from each."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from metricgrad.metrics.types import Structure
from metricgrad.refactoring.base import Exchangeable
from metricgrad.refactoring.probing.caller import BudgetSpentError, Caller, Trial
from metricgrad.refactoring.probing.exchange import exchange_entries, exchange_lists, shuffled
from metricgrad.refactoring.probing.gradient import gradient_trial
from metricgrad.refactoring.probing.hints import refusal, silence
from metricgrad.refactoring.probing.readings import Reading, Redraw, labels, orders, top_k
from metricgrad.refactoring.probing.scores import target_ranks, with_target_at

_EXCHANGES = 10


class Search:
    """One search on one caller.

    Attributes:
        tried: what was tried so far.
        notes: what to know of the batch, and what to do where nothing held.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.batch = caller.batch
        self.tried: list[Trial] = []
        self.notes: list[str] = [caller.batch.note] if caller.batch.note else []

    def run(self) -> Structure | None:
        """The structure of the first reading that holds."""
        if not self.caller.alive:
            self.notes.append(silence(self.caller))
            return None
        try:
            return self._first()
        except BudgetSpentError as error:
            self.notes.append(str(error))
            return None

    def _first(self) -> Structure | None:
        reading = labels(self.batch)
        if reading is not None and self._holds(reading):
            return Structure("labels", self._exchangeable_labels())
        k = self._find_k()
        if k is not None and self._holds(top_k(self.batch, k)):
            return Structure("top_k", "all", {"k": k})
        for reading in orders(self.batch, self.caller.metric.reads):
            if not self._holds(reading):
                continue
            if reading.structure is None:
                self.notes.append(reading.hint)
                return None
            return self._with_exchange(reading.structure)
        if self._tries(gradient_trial(self.caller)):
            return Structure("differentiable", "none")
        self.notes.append(refusal(self.caller))
        return None

    def _tries(self, trial: Trial) -> bool:
        self.tried.append(trial)
        return trial.verdict == "held"

    def _holds(self, reading: Reading) -> bool:
        """Whether redraws leave the value as it is, and the opposite does not."""
        trial = self.caller.trial(reading.name, reading.redraw)
        if trial.verdict == "held" and reading.opposite is not None:
            opposite = self.caller.trial(reading.name, reading.opposite)
            if opposite.verdict != "broken":
                trial = Trial(reading.name, "no evidence", "changing it does not change the value either")
        return self._tries(trial)

    def _find_k(self) -> int | None:
        """The rank at which the value first differs from that of targets on top of every row, by bisection."""
        if self.batch.kind != "classes" or self.batch.shape[1] < 3:
            return None
        low, high = 0, self.batch.shape[1] - 1
        best, worst = self._at_rank(low), self._at_rank(high)
        if best is None or worst is None or self.caller.same(best, worst):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            value = self._at_rank(middle)
            if value is None:
                return None
            low, high = (middle, high) if self.caller.same(value, best) else (low, middle)
        return high

    def _at_rank(self, rank: int) -> float | None:
        rows, classes = self.batch.shape
        scores = with_target_at(
            torch.full((rows,), rank), self.batch.targets.cpu().long(), classes, self.caller.generator
        )
        return self.caller.value(scores)

    def _exchangeable_labels(self) -> Exchangeable:
        if self.batch.is_masked:
            return "none"  # what is left out tells entries apart
        targets = self.batch.targets.cpu().long()
        classes = self.batch.kind == "classes"
        what, key = "rows of one class" if classes else "entries of one target", targets
        if self._swaps(what, _rows(key) if classes else _entries(key)):
            return "all"
        if self.batch.of_samples:
            key = self.batch.lists("sample") * (int(targets.max()) + 1) + targets
            if self._swaps(f"{what} within a sample", _rows(key) if classes else _entries(key)):
                return "sample"
        if not classes and self.batch.axes > 1:
            for within in ("column", "row"):
                if self._swaps(f"{what} within a {within}", _entries(2 * self.batch.lists(within) + targets)):
                    return within
        return "none"

    def _with_exchange(self, structure: Structure) -> Structure:
        """Whether lists of the same targets may change places; for one list, items of the same target."""
        targets, within = self.batch.targets.cpu(), structure.params["within"]
        if self.batch.kind == "classes" and within == "row":
            swaps = self._swaps("the ranks of the targets of two rows", self._exchange_ranks)
        elif self.batch.kind == "classes":
            swaps = False
        elif within == "all":
            swaps = self._swaps("entries of one target", _entries(targets.reshape(-1).unique(return_inverse=True)[1]))
        else:
            lists = self.batch.lists(within)
            swaps = self._swaps(f"two {within}s of the same targets", lambda s, g: exchange_lists(s, targets, lists, g))
        return dataclasses.replace(structure, exchangeable="all" if swaps else "none")

    def _exchange_ranks(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        targets = self.batch.targets.cpu().long()
        ranks = target_ranks(scores, targets)[torch.randperm(len(targets), generator=generator)]
        return with_target_at(ranks, targets, scores.shape[1], generator).to(scores)

    def _swaps(self, what: str, redraw: Redraw) -> bool:
        return self._tries(self.caller.trial(f"swapping {what}", redraw, _EXCHANGES))


def _rows(key: Tensor) -> Redraw:
    return lambda scores, generator: shuffled(scores, key, generator)


def _entries(key: Tensor) -> Redraw:
    return lambda scores, generator: exchange_entries(scores, key, generator)
