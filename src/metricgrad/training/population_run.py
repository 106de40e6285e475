"""The run of a population: looks at validation data, copies of the best child, and what is kept of each child."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import Tensor

from metricgrad.aligners.base import pair
from metricgrad.aligners.looking import spread_rows
from metricgrad.aligners.policy_state import Child
from metricgrad.aligners.seen import look
from metricgrad.aligners.turning import KnobTurner
from metricgrad.losses.form import Form
from metricgrad.metric import Metric
from metricgrad.metrics.threshold import choose_threshold, needs_threshold
from metricgrad.training.children import Children
from metricgrad.training.engine import DivergedError
from metricgrad.training.ranks import Alone, Kept, Ranks
from metricgrad.training.result import FitResult


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
    ) -> None:
        self.group, self.forms, self.where, self.aligner, self.metric = group, forms, where, aligner, metric
        self.valid, self.feedback, self.copy_best = valid, feedback, copy_best
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
            look(aligner, self.memories[child], self.forms[child], scores, targets, progress, before)
            for child, scores in zip(self.where.own, self.group.scores(inputs), strict=True)
        ]
        aligner.decide(self.where.shared(looks, self.memories, self.forms))
        if aligner.periods > before and self.copy_best is not None and aligner.periods % self.copy_best == 0:
            self._copy()
        aligner.watch.passed(started, looked=True)

    def judge(self, epoch: int, losses: Tensor) -> None:
        """Measure the children here at the end of an epoch, and keep the weights that are their best."""
        inputs, targets = self.valid
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        for place, scores in enumerate(self.group.scores(inputs)):
            threshold = None
            if needs_threshold(self.metric, scores, targets):
                threshold, value = choose_threshold(self.metric, scores, targets)
            else:
                value = float(self.metric(scores, targets))
            row = {"epoch": epoch, "train_loss": float(losses[place]), "valid": value, "seconds": seconds}
            own = self.kept[place]
            own.history.append(row if threshold is None else {**row, "threshold": threshold})
            if not math.isnan(value) and (math.isnan(own.value) or self.metric.is_better(value, own.value)):
                own.value, own.threshold, own.state = value, threshold, self.group.state_of(place)

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
