"""What training delivers, and its files: safetensors for the weights, JSON for the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.fabric.utilities import move_data_to_device
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.plot import plot_history
from metricgrad.checks import where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.metrics.metric import Metric
from metricgrad.training.batches import Data, as_tensor, is_array, loader
from metricgrad.training.files import describe_weights
from metricgrad.training.outputs import Output, labels_of, output_of, probabilities_of
from metricgrad.writing import replacing, write_text

SCHEMA = 1


@dataclass(repr=False)
class FitResult:
    """The model with its best weights, and how it came about.

    Attributes:
        model: in eval mode, on the CPU, with the weights of the epoch that was best by ``metric`` on validation.
        metric: what it was chosen by.
        threshold: where decisions change, in the units of :meth:`predict_scores` (logits): an item is positive where
            ``score > threshold``, that is where its probability is above ``sigmoid(threshold)``. :meth:`predict` and
            :meth:`evaluate` apply it, :meth:`predict_scores` and :meth:`predict_proba` do not. None where no threshold
            means anything (multiclass, or a metric that reads no labels).
        history: one row for each epoch: epoch, train_loss, valid (at that epoch's own threshold), threshold, seconds.
        path: the folder with the files, or None.
        forward: how batches that are no pairs were scored, or None.
        population: of ``fit(..., children=n)``, all the children, of which this is the best; else None.
        output: what the scores are of, as the validation targets show: ``"classes"``, ``"labels"`` (one yes or no for
            each score), ``"values"``, ``"points"``, ``"words"``, ``"spans"`` or ``"embeddings"``.
    """

    model: nn.Module
    metric: Metric
    threshold: float | None
    history: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None
    forward: Forward | None = None
    population: PopulationResult | None = field(default=None, compare=False)
    output: Output | None = None

    def __repr__(self) -> str:
        where = "" if self.path is None else f", path={str(self.path)!r}"
        return (
            f"FitResult({type(self.model).__name__}, valid {self.metric.name} {self.valid:.4f} of {len(self.history)} "
            f"epochs, threshold={self.threshold}{where})"
        )

    @property
    def valid(self) -> float:
        """The validation value of the weights that were kept, at ``threshold``; NaN before any epoch."""
        values = [row["valid"] for row in self.history if not math.isnan(row["valid"])] or [math.nan]
        return max(values) if self.metric.higher_is_better else min(values)

    def predict_scores(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The model's raw scores, nothing applied: logits, without the threshold.

        Args:
            data: inputs (tensor or array), ``(inputs, targets)``, a Dataset or a DataLoader.
            batch_size: items scored at once.

        Returns:
            Scores on the CPU, in the model's own shape and in the order of the items. What was delivered is
            ``metric(scores - threshold, targets)``, where there is a threshold.
        """
        if is_array(data):
            with torch.no_grad():
                parts = as_tensor(data, "inputs").split(batch_size)
                return torch.cat([self._scorer()(part.to(self._device)).cpu() for part in parts])
        return self._scores_and_targets(data, batch_size)[0]

    def predict(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The label of each item, the threshold applied.

        Args:
            data: as in :meth:`predict_scores`.
            batch_size: items scored at once.

        Returns:
            On the CPU, shaped like the targets: int64 classes by argmax; int64 0 and 1, where ``score > threshold``
            (0 without a threshold), for one yes or no an item or a column; the score itself for a regression; words,
            ``(x, y)`` points or (first, last) tokens for sentences, heat maps and answer spans.

        Raises:
            MetricgradError: for a model of embeddings, and where scores are NaN, as of inputs that are.
        """
        return labels_of(self._output(), self._known_scores(data, batch_size), self.threshold, self.metric)

    def predict_proba(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The probabilities of the raw scores: their softmax or their sigmoid; the threshold is not applied.

        Args:
            data: as in :meth:`predict_scores`.
            batch_size: items scored at once.

        Returns:
            On the CPU: ``(N, C)`` that sum to 1 for classes; ``(N,)`` or ``(N, C)`` probabilities of 1 for one yes or
            no an item or a column; a softmax over words or tokens for sentences and answer spans. A label is 1 where
            the probability is above ``sigmoid(threshold)``.

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
        """The metric on ``(inputs, targets)``, a Dataset or a DataLoader, the threshold applied."""
        scores, targets = self._scores_and_targets(data, batch_size)
        return float(self.metric(scores - self.threshold if self.threshold else scores, targets))

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

    def save(self, folder: Path, config: dict[str, Any]) -> None:
        """Write ``model.safetensors`` and, last, ``result.json``: its presence says that the run is finished."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.safetensors") as part:
            save_model(self.model, str(part))
        record = {
            "schema": SCHEMA,
            "metric": self.metric.spec or self.metric.name,
            "threshold": self.threshold,
            "output": self.output,
            "delivered": describe_weights(self.model),
            "history": [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in self.history],
            "config": config,
        }
        write_text(folder / "result.json", json.dumps(record, indent=1, allow_nan=False))


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


def load_finished(folder: Path, record: dict[str, Any], model: nn.Module, metric: Metric) -> FitResult:
    """The result of a finished run, its weights loaded into ``model``."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        load_model(model, str(folder / "model.safetensors"))
    except Exception as error:  # whatever a malformed file makes safetensors or torch raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MetricgradError(
            f"out={str(folder)!r}: the weights in model.safetensors do not load ({reason}); pass resume=False"
        ) from error
    for name, value in model.state_dict().items():
        if value.is_floating_point() and bool((value.isnan() & ~before[name].isnan()).any()):
            raise MetricgradError(f"out={str(folder)!r}: model.safetensors has NaN in {name!r}; pass resume=False")
    output = record.get("output") if record.get("output") in get_args(Output) else None  # not said by earlier versions
    history = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["history"]]
    return FitResult(model.eval(), metric, record["threshold"], history, folder, output=output)
