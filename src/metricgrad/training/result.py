"""What training delivers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.plot import plot_history
from metricgrad.checks import where_not_finite
from metricgrad.decisions.base import Decision, Judged
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.threshold import Threshold
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.metrics.metric import Metric
from metricgrad.training.batches import Data, as_tensor, is_array, loader
from metricgrad.training.delivery import Delivery
from metricgrad.training.outputs import Output, labels_of, output_of, probabilities_of


@dataclass(repr=False)
class FitResult:
    """The model with its best weights, and how it came about.

    Attributes:
        model: in eval mode, on the CPU, with the weights of the epoch that was best by ``metric`` on validation.
        metric: what it was chosen by.
        decision: a module scores -> scores after which the plain reading (side of 0, class on top) is the chosen one,
            fitted on the validation scores of these weights; ``decision.report()`` says how. :meth:`predict` and
            :meth:`evaluate` apply it, :meth:`predict_scores` and :meth:`predict_proba` do not. An ``Identity`` where
            no decision pays, or none means anything.
        history: one row for each epoch: epoch, train_loss, valid (what epochs are compared by: at that epoch's own
            best threshold where there is one, else of the plain reading), seconds.
        path: the folder with the files, or None.
        forward: how batches that are no pairs were scored, or None.
        population: of ``fit(..., children=n)``, all the children, of which this is the best; else None.
        output: what the scores are of, as the validation targets show: ``"classes"``, ``"labels"`` (one yes or no for
            each score), ``"values"``, ``"points"``, ``"words"``, ``"spans"`` or ``"embeddings"``.
    """

    model: nn.Module
    metric: Metric
    decision: Decision = field(default_factory=Identity)
    history: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None
    forward: Forward | None = None
    population: PopulationResult | None = field(default=None, compare=False)
    output: Output | None = None

    def __repr__(self) -> str:
        where = "" if self.path is None else f", path={str(self.path)!r}"
        without = "" if self.decision.kind == Identity.kind else f" ({self.valid_undecided:.4f} without)"
        return (
            f"FitResult({type(self.model).__name__}, valid {self.metric.name} {self.valid:.4f}{without}, decision "
            f"{self.decision.kind}, {len(self.history)} epochs{where})"
        )

    @property
    def valid(self) -> float:
        """The validation value of what is delivered, each row decided by a decision fitted without it.

        So it is what to expect of new rows, but for the choice of the epoch and of the kind. NaN before any epoch.
        """
        found = self.decision.findings.decided
        return self._best_epoch if found is None else found

    @property
    def valid_undecided(self) -> float:
        """The validation value of the same weights under the plain reading of their scores."""
        found = self.decision.findings.undecided
        return self._best_epoch if found is None else found

    @property
    def threshold(self) -> float | None:
        """The decision's one threshold, an item being positive above it; None where it is another decision.

        Goes with the next version: take ``result.decision``.
        """
        if isinstance(self.decision, Threshold) and not self.decision.threshold.ndim:
            return float(self.decision.threshold)
        return None

    @property
    def _best_epoch(self) -> float:
        values = [row["valid"] for row in self.history if not math.isnan(row["valid"])] or [math.nan]
        return max(values) if self.metric.higher_is_better else min(values)

    def predict_scores(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The model's raw scores, nothing applied: logits, without the decision.

        Args:
            data: inputs (tensor or array), ``(inputs, targets)``, a Dataset or a DataLoader.
            batch_size: items scored at once.

        Returns:
            Scores on the CPU, in the model's own shape and in the order of the items. What was delivered is
            ``metric(decision(scores), targets)``.
        """
        if is_array(data):
            with torch.no_grad():
                parts = as_tensor(data, "inputs").split(batch_size)
                return torch.cat([self._scorer()(part.to(self._device)).cpu() for part in parts])
        return self._scores_and_targets(data, batch_size)[0]

    def predict(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The label of each item, the decision applied.

        Args:
            data: as in :meth:`predict_scores`.
            batch_size: items scored at once.

        Returns:
            On the CPU, shaped like the targets: int64 classes, the one on top of ``decision(scores)``; int64 0 and 1,
            where ``decision(scores) > 0``, for one yes or no an item or a column; the score itself for a regression;
            words, ``(x, y)`` points or (first, last) tokens for sentences, heat maps and answer spans.

        Raises:
            MetricgradError: for a model of embeddings, and where scores are NaN, as of inputs that are.
        """
        return labels_of(self._output(), self._known_scores(data, batch_size), self.decision, self.metric)

    def predict_proba(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The probabilities of the raw scores, nothing applied: their softmax or their sigmoid.

        The decision is not in them, so the label need not be the likeliest class: a decision pays for rare classes, or
        for those that the metric pays for.

        Args:
            data: as in :meth:`predict_scores`.
            batch_size: items scored at once.

        Returns:
            On the CPU: ``(N, C)`` that sum to 1 for classes; ``(N,)`` or ``(N, C)`` probabilities of 1 for one yes or
            no an item or a column; a softmax over words or tokens for sentences and answer spans.

        Raises:
            MetricgradError: for a regression, heat maps or embeddings, which have none, and where scores are NaN.
        """
        return probabilities_of(self._output(), self._known_scores(data, batch_size))

    def _known_scores(self, data: Any, batch_size: int) -> Tensor:
        scores = self.predict_scores(data, batch_size=batch_size)
        if found := where_not_finite(scores, nan_only=True):
            raise MetricgradError(
                f"the model's scores hold {found}, which say nothing; look at the inputs of those rows, or take "
                "predict_scores"
            )
        return scores

    def evaluate(self, data: Data, *, batch_size: int = 1024) -> float:
        """The metric on ``(inputs, targets)``, a Dataset or a DataLoader, the decision applied."""
        scores, targets = self._scores_and_targets(data, batch_size)
        return float(self.metric(self.decision(scores), targets))

    def evaluate_both(self, data: Data, *, batch_size: int = 1024) -> Judged:
        """The metric with the decision and without, of one pass over the data: ``(decided, undecided)``."""
        return self.decision.judge(self.metric, *self._scores_and_targets(data, batch_size))

    def settle(self, valid: Data, delivery: Delivery, device: torch.device | None = None) -> None:
        """Fit the decision on the validation scores of the weights that are delivered.

        Args:
            valid: the validation part.
            delivery: which decision.
            device: where it is scored; by default where the model is.
        """
        if self.output is not None and not delivery.needs_scores:
            self.decision = delivery.undecided(self.output)
            return
        home = self._device
        self.model.to(device or home)
        scores, targets = self._scores_and_targets(valid, 1024)
        self.model.to(home)
        self.output = self.output or output_of(self.metric, scores, targets)
        self.decision = delivery.decided(scores, targets) if delivery.needs_scores else delivery.undecided(self.output)

    def look(self, valid: Data) -> None:
        """Find out what the scores are of, from all validation targets."""
        self.output = output_of(self.metric, *self._scores_and_targets(valid, 1024))

    def _output(self) -> Output:
        if self.output is None:
            raise MetricgradError(
                "this result does not know what its scores are of; take predict_scores(inputs), or say it: "
                "result.output = 'classes', 'labels' or 'values'"
            )
        return self.output

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def _scorer(self) -> nn.Module:
        return self.model.eval()

    def _scores_and_targets(self, data: Data, batch_size: int) -> tuple[Tensor, Tensor]:
        """Raw scores and targets, on the CPU."""
        step, model, device = self.forward or default_forward, self._scorer(), self._device
        batches: Iterable[Any] = loader(data, batch_size, shuffle=False, name="data")
        with torch.no_grad(), kept_all_randomness():  # a loader draws a seed, shuffled or not
            outputs = [step(model, move_data_to_device(batch, device)) for batch in batches]
        scores, targets = (torch.cat([each.cpu() for each in part]) for part in zip(*outputs, strict=True))
        return scores, targets


@dataclass(repr=False)
class PopulationResult:
    """What a population leaves behind.

    Attributes:
        results: one :class:`FitResult` for each child, the best by validation first.
        loss: the loss that was passed, its aligner with what it learned from all children.
        histories: the aligner's history of each child, in the same order as ``results``.
        stacked: whether the children were trained as one model.
        seconds: of training, the timed first steps included.
    """

    results: list[FitResult]
    loss: Loss
    histories: list[dict[str, Any]]
    stacked: bool
    seconds: float

    def __repr__(self) -> str:
        values = ", ".join(f"{result.valid:.4f}" for result in self.results)
        return f"PopulationResult({len(self.results)} children, valid {values}, {self.seconds:.0f} s)"

    @property
    def best(self) -> FitResult:
        """The child that is best by validation."""
        return self.results[0]

    def plot(self, path: str | Path) -> Path:
        """The best child's knobs, rewards and metric over time as one PNG, as :meth:`KnobController.plot` draws."""
        aligner = self.loss.aligner
        assert isinstance(aligner, KnobController)
        return plot_history(self.histories[0], path, aligner.metric)
