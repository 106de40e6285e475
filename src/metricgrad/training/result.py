"""What training delivers, and its files: safetensors for the weights, JSON for the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, pair
from metricgrad.errors import MetricgradError
from metricgrad.metric import Metric
from metricgrad.training.batches import Data, as_tensor, loader
from metricgrad.writing import replacing, write_text

if TYPE_CHECKING:
    from metricgrad.training.population import PopulationResult

SCHEMA = 1


@dataclass(repr=False)
class FitResult:
    """The model with its best weights, and how it came about.

    Attributes:
        model: in eval mode, on the CPU, with the weights of the epoch that was best by ``metric`` on validation.
        metric: what it was chosen by.
        threshold: where decisions change, on the logit scale: an item is positive where ``score > threshold``. None
            where no threshold means anything (multiclass, or a metric that reads no labels).
        history: one row for each epoch: epoch, train_loss, valid (at that epoch's own threshold), threshold, seconds.
        path: the folder with the files, or None.
        forward: how batches that are no pairs were scored, or None.
        population: of ``fit(..., children=n)``, all the children, of which this is the best; else None.
    """

    model: nn.Module
    metric: Metric
    threshold: float | None
    history: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None
    forward: Forward | None = None
    population: PopulationResult | None = field(default=None, compare=False)

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
        """Logits with the threshold taken off, so that 0 is where decisions change.

        Args:
            data: inputs (tensor or array), ``(inputs, targets)``, a Dataset or a DataLoader.
            batch_size: items scored at once.

        Returns:
            Scores on the CPU; ``metric(result.predict_scores(inputs), targets)`` is what was delivered.
        """
        if isinstance(data, Tensor) or (hasattr(data, "shape") and hasattr(data, "dtype")):
            inputs = as_tensor(data)
            self.model.eval()
            with torch.no_grad():
                scores = torch.cat([self.model(part) for part in inputs.split(batch_size)])
            return scores - self.threshold if self.threshold else scores
        return self._scores_and_targets(data, batch_size)[0]

    def evaluate(self, data: Data, *, batch_size: int = 1024) -> float:
        """The metric on ``(inputs, targets)``, a Dataset or a DataLoader, at the delivered threshold."""
        return float(self.metric(*self._scores_and_targets(data, batch_size)))

    def _scores_and_targets(self, data: Data, batch_size: int) -> tuple[Tensor, Tensor]:
        self.model.eval()
        step = self.forward or pair
        with torch.no_grad():
            outputs: Iterable[Any] = [step(self.model, b) for b in loader(data, batch_size, shuffle=False, name="data")]
        scores, targets = (torch.cat(part) for part in zip(*outputs, strict=True))
        return (scores - self.threshold if self.threshold else scores), targets

    def save(self, folder: Path, config: dict[str, Any]) -> None:
        """Write ``model.safetensors`` and, last, ``result.json``: its presence says that the run is finished."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.safetensors") as part:
            save_model(self.model, str(part))
        record = {
            "schema": SCHEMA,
            "metric": self.metric.spec or self.metric.name,
            "threshold": self.threshold,
            "history": [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in self.history],
            "config": config,
        }
        write_text(folder / "result.json", json.dumps(record, indent=1, allow_nan=False))


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
    history = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["history"]]
    return FitResult(model.eval(), metric, record["threshold"], history, folder)
