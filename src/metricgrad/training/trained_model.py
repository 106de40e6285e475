"""A network under its decision: inputs in, answers out; what training delivers and what a folder is loaded as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.checks import where_not_finite
from metricgrad.decisions.base import Decision, Judged
from metricgrad.decisions.identity import Identity
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.training.batches import Data, as_tensor, context_of, is_array, loader
from metricgrad.training.outputs import Output, labels_of, probabilities_of


@dataclass(repr=False)
class TrainedModel:
    """A network that was trained, and the decision it is delivered under; :func:`metricgrad.load_model` gives one.

    Attributes:
        model: in eval mode.
        metric: what it was chosen by.
        decision: a module scores -> scores after which the plain reading (side of 0, class on top) is the chosen one.
            :meth:`predict` and :meth:`evaluate` apply it, :meth:`scores` and :meth:`predict_proba` do not.
        forward: how batches that are no pairs are scored, ``(model, batch) -> (scores, targets)``, or None.
        output: what the scores are of: ``"classes"`` (on axis 1: ``"classes_first"``), ``"labels"`` (one yes or no for
            each score), ``"values"``, ``"points"``, ``"words"``, ``"spans"`` or ``"embeddings"``.
        card: of a model that was loaded: what it is, on what it was trained, how, and how well it did.
    """

    model: nn.Module
    metric: Metric
    decision: Decision = field(default_factory=Identity)
    forward: Forward | None = field(default=None, kw_only=True)
    output: Output | None = field(default=None, kw_only=True)
    card: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def __repr__(self) -> str:
        return f"TrainedModel({type(self.model).__name__}, metric {self.metric.name}, decision {self.decision.kind})"

    def scores(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The model's raw scores, nothing applied: logits, without the decision.

        Args:
            data: inputs (tensor or array), ``(inputs, targets)``, a Dataset or a DataLoader.
            batch_size: items scored at once.

        Returns:
            Scores on the CPU, in the model's own shape and in the order of the items. What is delivered is
            ``metric(decision(scores), targets)``.
        """
        if is_array(data):
            with torch.no_grad():
                parts = as_tensor(data, "inputs").split(batch_size)
                return torch.cat([self._scorer()(part.to(self._device)).cpu() for part in parts])
        return self.scored(data, batch_size=batch_size)[0]

    def predict(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The label of each item, the decision applied.

        Args:
            data: as in :meth:`scores`.
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
            data: as in :meth:`scores`.
            batch_size: items scored at once.

        Returns:
            On the CPU: ``(N, C)`` that sum to 1 for classes; ``(N,)`` or ``(N, C)`` probabilities of 1 for one yes or
            no an item or a column; a softmax over words or tokens for sentences and answer spans.

        Raises:
            MetricgradError: for a regression, heat maps or embeddings, which have none, and where scores are NaN.
        """
        return probabilities_of(self._output(), self._known_scores(data, batch_size))

    def _known_scores(self, data: Any, batch_size: int) -> Tensor:
        scores = self.scores(data, batch_size=batch_size)
        if found := where_not_finite(scores, nan_only=True):
            raise MetricgradError(
                f"the model's scores hold {found}, which say nothing; look at the inputs of those rows, or take "
                "scores(inputs)"
            )
        return scores

    def evaluate(self, data: Data, *, batch_size: int = 1024) -> float:
        """The metric on ``(inputs, targets)``, a Dataset or a DataLoader, the decision applied.

        The third part of ``(inputs, targets, weights)`` is its ``sample_weight``.
        """
        scores, targets = self.scored(data, batch_size=batch_size)
        return float(self.metric(self.decision(scores), targets, **context_of(data)))

    def evaluate_both(self, data: Data, *, batch_size: int = 1024) -> Judged:
        """The metric with the decision and without, of one pass over the data: ``(decided, undecided)``."""
        return self.decision.judge(self.metric, *self.scored(data, batch_size=batch_size), **context_of(data))

    def _output(self) -> Output:
        if self.output is None:
            raise MetricgradError(
                "this model does not know what its scores are of; take scores(inputs), or say it: "
                "result.output = 'classes', 'labels' or 'values'"
            )
        return self.output

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def _scorer(self) -> nn.Module:
        return self.model.eval()

    def scored(self, data: Data, *, batch_size: int = 1024) -> tuple[Tensor, Tensor]:
        """Raw scores and targets of ``(inputs, targets)``, a Dataset or a DataLoader, on the CPU and in its order."""
        from lightning.fabric.utilities import move_data_to_device  # seconds, which a table's answers need not take

        step, model, device = self.forward or default_forward, self._scorer(), self._device
        batches: Iterable[Any] = loader(data, batch_size, shuffle=False, name="data")
        with torch.no_grad(), kept_all_randomness():  # a loader draws a seed, shuffled or not
            outputs = [step(model, move_data_to_device(batch, device)) for batch in batches]
        scores, targets = (torch.cat([each.cpu() for each in part]) for part in zip(*outputs, strict=True))
        return scores, targets
