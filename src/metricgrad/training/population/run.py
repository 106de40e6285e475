"""The run of a population: looks at validation data, copies of the best child, and what is kept of each child."""

from __future__ import annotations

import math
import time
from typing import Any, Literal, TypedDict

from torch import Tensor

from metricgrad.aligners.base import pair
from metricgrad.aligners.knobs.controller import KnobTurner
from metricgrad.aligners.knobs.evaluation import spread_rows
from metricgrad.aligners.knobs.state import Child
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits
from metricgrad.losses.base import Form
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.threshold import judged_at
from metricgrad.training.engine import DivergedError
from metricgrad.training.population.children import Children, Stacked
from metricgrad.training.population.ranks import Alone, Kept, Ranks
from metricgrad.training.result import FitResult


class RunState(TypedDict):
    """What :meth:`PopulationRun.state` gives; ``best`` is NaN before any value."""

    epoch: int
    stale: int
    best: Any
    stacked: bool
    group: dict[str, Any]
    forms: list[dict[str, Any]]
    memories: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    aligner: dict[str, Any]


class KeptState(TypedDict):
    """What is kept of a child; ``value`` is NaN before any, and so may be numbers of the history."""

    value: Any
    threshold: float | None
    state: dict[str, Tensor] | None
    history: list[dict[str, Any]]


class PopulationRun:
    """Looks at the children of this process, and decides for all of them.

    Args:
        group: the children of this process.
        forms: of all children; those of this process are the group's own.
        where: which children are here, and how to hear of the others.
        aligner: the one policy, or random walk.
        metric: what chooses epochs and children.
        valid: the rows it is measured on.
        feedback: the rows the aligner looks at.
        copy_best: periods between copies of the best child to the worst, or None.
        threshold: that children are judged at: ``"auto"``, a number, or None for 0.

    Attributes:
        epoch: how many epochs have been judged.
        kept: what is kept of each child that is here.
        stale: epochs since any child was better than all were before.
    """

    def __init__(
        self,
        group: Children,
        forms: list[Form],
        where: Alone | Ranks,
        aligner: KnobTurner,
        metric: Metric,
        valid: tuple[Tensor, Tensor],
        feedback: tuple[Tensor, Tensor],
        copy_best: int | None,
        threshold: Literal["auto"] | float | None = "auto",
    ) -> None:
        self.group, self.forms, self.where, self.aligner, self.metric = group, forms, where, aligner, metric
        self.valid, self.feedback, self.copy_best = valid, feedback, copy_best
        self.threshold: Literal["auto"] | float | None = threshold
        self.epoch, self.stale, self.best = 0, 0, math.nan
        self.memories = [Child() for _ in forms]
        self.kept = [Kept() for _ in group.models]
        self.looked_at: list[tuple[Tensor, Tensor]] = []
        self.clock = time.perf_counter()

    def after_step(self, losses: Tensor, total_steps: int) -> None:
        """Note a step; where a look is due, score the children here, hear of the others, and move all knobs."""
        aligner = self.aligner
        started = time.perf_counter()
        aligner.watch.passed(self.clock if aligner.ticks == 0 else started, looked=False)
        aligner.ticks += 1
        for child, (scores, targets), loss in zip(self.where.own, self.group.outputs, losses, strict=True):
            self.memories[child].recent.add(scores, targets, loss)
        if not aligner.due(total_steps):
            return
        inputs, targets = self._rows(total_steps)
        before = aligner.periods
        progress = min(1.0, aligner.ticks / total_steps)
        looks = [
            aligner.look(self.memories[child], self.forms[child], scores, targets, progress)
            for child, scores in zip(self.where.own, self.group.scores(inputs), strict=True)
        ]
        aligner.decide(self.where.shared(looks, self.memories, self.forms))
        if aligner.periods > before and self.copy_best is not None and aligner.periods % self.copy_best == 0:
            self._copy()
        aligner.watch.passed(started, looked=True)

    def judge(self, losses: Tensor) -> None:
        """Measure the children here at the end of an epoch, and keep the weights that are their best."""
        inputs, targets = self.valid
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        values = []
        for place, scores in enumerate(self.group.scores(inputs)):
            threshold, value = judged_at(self.metric, scores, targets, self.threshold)
            row = {"epoch": self.epoch, "train_loss": float(losses[place]), "valid": value, "seconds": seconds}
            own = self.kept[place]
            own.history.append(row if threshold is None else {**row, "threshold": threshold})
            if self._better(value, own.value):
                own.value, own.threshold, own.state = value, threshold, self.group.state_of(place)
            values.append(value)
        self.epoch, self.stale = self.epoch + 1, self.stale + 1
        for value in self.where.every(values):
            if self._better(value, self.best):
                self.best, self.stale = value, 0

    def state(self) -> dict[str, Any]:
        """All that the rest of the run follows from, as tensors and plain containers."""
        return {
            "epoch": self.epoch,
            "stale": self.stale,
            "best": self.best,
            "stacked": isinstance(self.group, Stacked),
            "group": self.group.state(),
            "forms": [form.state_dict() for form in self.forms],
            "memories": [memory.state_dict() for memory in self.memories],
            "kept": [vars(kept) for kept in self.kept],
            "aligner": self.aligner.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken."""
        if not fits(state, RunState) or not all(fits(kept, KeptState) for kept in state["kept"]):
            raise MetricgradError("last.ckpt holds no state of a population; pass resume=False to train anew")
        self.epoch, self.stale, self.best = state["epoch"], state["stale"], state["best"]
        self.group.load_state(state["group"])
        for parts, name in ((self.forms, "forms"), (self.memories, "memories")):
            for part, own in zip(parts, state[name], strict=True):
                part.load_state_dict(own)
        self.kept = [Kept(**kept) for kept in state["kept"]]
        self.aligner.load_state_dict(state["aligner"])
        self.aligner.resumed = False  # by this run, which then ends; a later training is another one

    def results(self) -> tuple[list[FitResult], list[dict[str, Any]]]:
        """One result for each child, the best first, and the aligner's history of each in the same order."""
        found = []
        for child, (model, kept) in enumerate(self.where.outcome(self.group.models, self.kept)):
            if math.isnan(kept.value):
                raise DivergedError(f"metric {self.metric.name!r} was NaN on valid in every epoch of a child")
            model.load_state_dict(kept.state)
            result = FitResult(model.eval(), self.metric, kept.threshold, kept.history)
            found.append((kept.value, child, result))
        found.sort(key=lambda one: (-one[0] if self.metric.higher_is_better else one[0], one[1]))
        histories = [self.aligner.history_of(self.memories[child]) for _, child, _ in found]
        return [result for _, _, result in found], histories

    def _rows(self, total_steps: int) -> tuple[Tensor, Tensor]:
        if not self.looked_at:
            rows = self.aligner.pace(total_steps)[1]
            self.looked_at = spread_rows([self.feedback], self.aligner.rows, rows, pair)
        inputs, targets = self.looked_at[0]
        return inputs[: self.aligner.rows], targets[: self.aligner.rows]

    def _copy(self) -> None:
        sign = 1 if self.metric.higher_is_better else -1
        values = [sign * float(child.memory["metric"][-1]) for child in self.memories]
        best, worst = values.index(max(values)), values.index(min(values))
        if values[best] == values[worst]:
            return
        self.where.copy(self.group, self.forms, best, worst)
        own = self.memories[worst].memory
        record = own["history"]
        own.tensors = {name: value.clone() for name, value in self.memories[best].memory.tensors.items()}
        own["history"] = record

    def _better(self, value: float, than: float) -> bool:
        return not math.isnan(value) and (math.isnan(than) or self.metric.is_better(value, than))
