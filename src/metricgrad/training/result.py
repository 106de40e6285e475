"""What training delivers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.plot import plot_history
from metricgrad.decisions.base import Findings
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.threshold import Threshold
from metricgrad.loss import Loss
from metricgrad.training.batches import Data
from metricgrad.training.delivery import Delivery
from metricgrad.training.network_folder import finite, save_network
from metricgrad.training.outputs import output_of
from metricgrad.training.trained_model import TrainedModel


@dataclass(repr=False)
class FitResult(TrainedModel):
    """The model with its best weights, and how it came about.

    Attributes:
        model: in eval mode, on the CPU, with the weights of the epoch that was best by ``metric`` on validation.
        metric: what it was chosen by.
        decision: a module scores -> scores after which the plain reading (side of 0, class on top) is the chosen one,
            fitted on the validation scores of these weights; ``decision.report()`` says how. :meth:`predict` and
            :meth:`evaluate` apply it, :meth:`scores` and :meth:`predict_proba` do not. An ``Identity`` where
            no decision pays, or none means anything.
        history: one row for each epoch: epoch, train_loss, valid (what epochs are compared by: at that epoch's own
            best threshold where there is one, else of the plain reading), seconds.
        path: the folder with the files, or None.
        population: of ``fit(..., children=n)``, all the children, of which this is the best; else None.
        loss: the module it was trained on, with what it learned; None of a run that had ended before.
        plain: gives what ``decision="none"`` would have delivered, where epochs were compared at the best threshold of
            each and another one may be best as scores are read plainly; None elsewhere, and of a run that had ended.
        forward: how batches that are no pairs were scored, or None.
        output: what the scores are of, as the validation targets show: see :class:`TrainedModel`.
        card: what was asked for: loss, learning rate, data and so on, by the names of :func:`metricgrad.fit`.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None
    population: PopulationResult | None = field(default=None, compare=False)
    loss: nn.Module | None = field(default=None, compare=False)
    plain: Callable[[], FitResult] | None = field(default=None, compare=False)

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

    def read_plainly(
        self, model: nn.Module, value: float, words: str = "no decision: none was asked for"
    ) -> FitResult:  # fmt: skip
        """The same training with the weights that were best, by this value, as their scores are read plainly."""
        plain = Identity("threshold")
        plain.findings = Findings(words, value, value)
        return replace(self, model=model.eval(), decision=plain, plain=None)

    def predict_scores(self, data: Any, *, batch_size: int = 1024) -> Tensor:
        """The model's raw scores, nothing applied: :meth:`scores`."""
        return self.scores(data, batch_size=batch_size)

    def save(self, folder: str | Path) -> Path:
        """Write what is delivered as a folder, for :func:`metricgrad.load_model`: nothing in it is code.

        The weights (``weights.safetensors``), the loss with what it learned, where it is one of ours
        (``loss.safetensors``, for :func:`metricgrad.load_loss`), and ``card.json``, written last: the decision, the
        metric, what was asked for, how well it did on validation, epoch by epoch, versions and checksums.

        Args:
            folder: a new one, or one without a model.

        Raises:
            MetricgradError: where a model is there already, it cannot be written, or the network keeps state that is
                no tensor.
        """
        about = {
            **self.card,
            "valid": finite(self.valid),
            "valid_undecided": finite(self.valid_undecided),
            "history": [{name: finite(value) for name, value in row.items()} for row in self.history],
        }
        return save_network(self, folder, loss=self.loss, about=about)

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
        scores, targets = self.scored(valid)
        self.model.to(home)
        self.output = self.output or output_of(self.metric, scores, targets)
        self.decision = delivery.decided(scores, targets) if delivery.needs_scores else delivery.undecided(self.output)

    def look(self, valid: Data) -> None:
        """Find out what the scores are of, from all validation targets."""
        self.output = output_of(self.metric, *self.scored(valid))


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
