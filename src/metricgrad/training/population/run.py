"""The run of a population: what its one aligner is told of every child, and copies of the best child to the worst."""

from __future__ import annotations

import math
import time
from typing import Any, TypedDict

from torch import Tensor

from metricgrad.aligners.base import default_forward
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.evaluation import spread_rows
from metricgrad.aligners.knobs.observation import Scored
from metricgrad.aligners.knobs.state import Child
from metricgrad.decisions.kinds import restored, stored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits
from metricgrad.training.engine import DivergedError
from metricgrad.training.population.children import Children, Stacked
from metricgrad.training.result import FitResult
from metricgrad.training.run_folder import files
from metricgrad.training.run_folder.folder import RunFolder
from metricgrad.training.run_record import RunRecord


class RunState(TypedDict):
    """What :meth:`PopulationRun.state` gives."""

    stacked: bool
    group: dict[str, Any]
    forms: list[dict[str, Any]]
    memories: list[dict[str, Any]]
    aligner: dict[str, Any]


class PopulationRun:
    """Children that train side by side under one aligner.

    Args:
        group: the children.
        aligner: the one policy, or random walk.
        record: of their epochs.
        valid: the rows children are judged on.
        feedback: the rows the aligner evaluates.
        copy_best: periods between copies of the best child to the worst, or None.
    """

    def __init__(
        self,
        group: Children,
        aligner: KnobController,
        record: RunRecord,
        valid: tuple[Tensor, Tensor],
        feedback: tuple[Tensor, Tensor],
        copy_best: int | None,
    ) -> None:
        self.group, self.aligner, self.record = group, aligner, record
        self.valid, self.feedback, self.copy_best = valid, feedback, copy_best
        self.memories = [Child() for _ in group.forms]
        self._rows: tuple[Tensor, Tensor] | None = None
        aligner.stopwatch.passed(time.perf_counter(), spent=False)

    def after_step(self, losses: Tensor, total_steps: int) -> None:
        """Note a step of every child; the aligner evaluates and moves them where it is time to."""
        for memory, (scores, targets), loss in zip(self.memories, self.group.outputs, losses, strict=True):
            memory.train_batches.add(scores, targets, loss)
        aligner, before = self.aligner, self.aligner.periods
        aligner.stepped(total_steps, self._scored)
        if aligner.periods > before and self.copy_best is not None and aligner.periods % self.copy_best == 0:
            self._copy()

    def judge(self, losses: Tensor) -> None:
        """Measure the children at the end of an epoch, and keep the weights that are their best."""
        inputs, targets = self.valid
        self.record.judge(self.group.scores(inputs), targets, losses.tolist(), self.group.state_of)

    def state(self) -> dict[str, Any]:
        """All that the rest of the run follows from beside the record, as tensors and plain containers."""
        return {
            "stacked": isinstance(self.group, Stacked),
            "group": self.group.state(),
            "forms": [form.state_dict() for form in self.group.forms],
            "memories": [memory.state_dict() for memory in self.memories],
            "aligner": self.aligner.state_dict(),
        }

    def take_up(self, folder: RunFolder | None, saved: dict[str, Any] | None) -> None:
        """Go on where a checkpoint of the folder was written, if there is one."""
        if folder is not None and saved is not None:
            with files.resumed(folder.checkpoint, lambda: False):
                self.load_state(saved["population"])

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken."""
        if not fits(state, RunState):
            raise MetricgradError("last.ckpt holds no state of a population; pass resume=False to train anew")
        self.group.load_state(state["group"])
        for parts, name in ((self.group.forms, "forms"), (self.memories, "memories")):
            for part, own in zip(parts, state[name], strict=True):
                part.load_state_dict(own)
        self.aligner.load_state_dict(state["aligner"])
        self.aligner.state.resumed = False  # by this run, which then ends; a later training is another one

    def results(self) -> tuple[list[FitResult], list[dict[str, Any]]]:
        """One result for each child, the best first, and the aligner's history of each in the same order."""
        metric, found = self.record.metric, []
        for child, (model, kept) in enumerate(zip(self.group.models, self.record.kept, strict=True)):
            if math.isnan(kept.value):
                raise DivergedError(f"metric {metric.name!r} was NaN on valid in every epoch of a child")
            model.load_state_dict(kept.state)
            result = FitResult(model.eval(), metric, history=kept.history)
            if kept.decision is None:
                result.settle(self.valid, self.record.delivery)
                kept.decision = stored(result.decision)
            else:
                result.look(self.valid)
                result.decision = restored(kept.decision)
            found.append((result.valid, child, result))
        found.sort(key=lambda one: (-one[0] if metric.higher_is_better else one[0], one[1]))
        histories = [self.aligner.history_of(self.memories[child]) for _, child, _ in found]
        return [result for _, _, result in found], histories

    def _scored(self, rows: int | None) -> list[Scored]:
        """Every child's scores of the rows that the aligner evaluates."""
        if self._rows is None:
            most = self.aligner.settings.rows
            inputs, targets = spread_rows([self.feedback], most, rows, default_forward)[0]
            self._rows = inputs[:most], targets[:most]
        inputs, targets = self._rows
        parts = zip(self.memories, self.group.forms, self.group.scores(inputs), strict=True)
        return [Scored(memory, form, scores, targets) for memory, form, scores in parts]

    def _copy(self) -> None:
        sign = 1 if self.record.metric.higher_is_better else -1
        values = [sign * float(child.memory["metric"][-1]) for child in self.memories]
        best, worst = values.index(max(values)), values.index(min(values))
        if values[best] == values[worst]:
            return
        self.group.copy(best, worst)
        forms = self.group.forms
        forms[worst].load_state_dict(forms[best].state_dict())
        own = self.memories[worst].memory
        record = own["history"]
        own.tensors = {name: value.clone() for name, value in self.memories[best].memory.tensors.items()}
        own["history"] = record
