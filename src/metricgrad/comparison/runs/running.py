"""One run of a comparison: trained, judged with its decision and without, and why it failed, if it did."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.comparison.report import evidence_file
from metricgrad.comparison.report.evidence import gather
from metricgrad.comparison.runs.agenda import Job
from metricgrad.comparison.runs.trainings import Training
from metricgrad.comparison.summary import DIVERGED
from metricgrad.decisions.base import Judged
from metricgrad.errors import FailedRunError, MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.time_limit import MetricFailedError, time_limit
from metricgrad.tasks.task import Task
from metricgrad.training.batches import Data
from metricgrad.training.delivery import Asked
from metricgrad.training.engine import DivergedError
from metricgrad.training.result import FitResult


@dataclass(frozen=True)
class Runner:
    """How the runs of one comparison are made.

    Attributes:
        task: what is trained on.
        metric: what decides.
        decision: as in :func:`metricgrad.fit`.
        metric_timeout: seconds that a call of a metric of one's own may take.
        folder: of the study, where what the report draws is kept.
    """

    task: Task
    metric: Metric
    decision: Asked
    metric_timeout: float | None
    folder: Path

    def run(self, job: Job) -> dict[str, Any]:
        """Values with and without the decision, on the test part where the run is a final one; failed; seconds.

        Of the run that is shown, what the report draws is kept before its line is written.
        """
        train, valid, held_out = self.task.load(job.seed)
        parts = ("valid", "test") if job.trial is None else ("valid",)
        outcome: dict[str, Any] = {part + reading: None for part in parts for reading in ("", "_undecided")}
        outcome["decision"] = None
        started = time.perf_counter()
        with kept_all_randomness(), time_limit(self.metric_timeout) as limit:
            try:
                asked = Training(job.params, job.seed, train, valid, self.metric, self.decision, job.share)
                result, loss = job.row.train(asked)
                outcome["decision"] = result.decision.kind
                plain = result.plain() if result.plain else result
                outcome |= self._both("valid", Judged(result.valid, plain.valid_undecided))
                if job.trial is None:
                    outcome |= self._both("test", _judged(result, plain, held_out))
                outcome["seconds"] = time.perf_counter() - started
            except DivergedError as error:
                outcome["failed"] = f"{DIVERGED}{error}"
            except MetricgradError as error:
                # code that carried on after a call that took too long may have met something else then
                if not isinstance(error, FailedRunError) and not (limit and limit.expired):
                    raise
                outcome["failed"] = str(limit.error()) if limit and limit.expired else str(error)
            else:
                if job.trial is None and job.seed == evidence_file.SEED:
                    found = gather(loss, result, valid, held_out, self.task.kind)
                    evidence_file.keep(self.folder, job.row.name, job.params, found)
        outcome.setdefault("seconds", time.perf_counter() - started)
        return outcome

    def _both(self, part: str, found: Judged) -> dict[str, float | None]:
        if not math.isfinite(found.decided):
            where = "the test part" if part == "test" else part
            raise MetricFailedError(f"metric {self.metric.name!r} was {found.decided} on {where}")
        undecided = found.undecided if math.isfinite(found.undecided) else None
        return {part: found.decided, f"{part}_undecided": undecided}


def _judged(result: FitResult, plain: FitResult, held_out: Data) -> Judged:
    """What is delivered, and what would be without a decision."""
    both = result.evaluate_both(held_out)
    return both if plain is result else Judged(both.decided, plain.evaluate(held_out))
