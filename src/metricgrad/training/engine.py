"""The LightningModule behind ``fit``: one optimiser step at a time, judged once an epoch by the metric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypedDict

import lightning
import torch
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, pair
from metricgrad.errors import FailedRunError, MetricgradError
from metricgrad.json_types import fits
from metricgrad.losses.calling import called
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.threshold import judged_at
from metricgrad.training.batches import Epochs, check_finite_data
from metricgrad.training.outputs import Output, output_of

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class DivergedError(FailedRunError):
    """Training went astray with these settings; others may work."""


class Best(TypedDict):
    """The weights that were best by the metric."""

    value: float
    threshold: float | None
    epoch: int
    state: dict[str, Tensor]


class Engine(lightning.LightningModule):
    """Model and loss together, so that a checkpoint carries both.

    The optimiser is stepped by hand (Lightning's manual optimisation): an aligner's optimiser hooks then see
    forward, backward and step in the order of a hand-written loop, not a step that contains the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        metric: Metric,
        *,
        optimizer: Optimizer,
        forward: Forward | None,
        threshold: Literal["auto"] | float | None,
        epochs: Epochs,
        train: Any,
        valid: Iterable[Any],
        total_steps: int | None,
        lr: float,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss = model, loss
        self.metric = metric
        self.threshold: Literal["auto"] | float | None = threshold
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.begun = False  # whether a step was taken since the training was taken up
        self.output: Output | None = None
        self._make_optimizer, self._custom_forward = optimizer, forward
        self._forward_pass = forward or pair
        self._epochs, self._train, self._valid, self._total_steps = epochs, train, valid, total_steps
        self._lr, self._config = lr, config
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._handle: Any = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The person's optimiser over the model's parameters; the loss's own belong to its aligner."""
        return self._make_optimizer(self.model.parameters())

    def on_fit_start(self) -> None:
        """Attach a loss that moves while the network trains."""
        attach = getattr(self.loss, "attach", None)
        if attach is not None:
            optimizer = self.trainer.optimizers[0]
            self._handle = attach(
                self.model, optimizer, valid=self._valid, forward=self._custom_forward, total_steps=self._total_steps
            )

    def detach_loss(self) -> None:
        """Take the loss's hooks off the model and the optimiser."""
        if self._handle is not None:
            self._handle.detach()
            self._handle = None

    def on_train_epoch_start(self) -> None:
        """Fix the epoch's random choices."""
        self._epochs.epoch = self.current_epoch
        self._started = time.perf_counter()
        self._loss_sum, self._steps = torch.zeros((), device=self.device), 0

    def training_step(self, batch: Any, index: int) -> None:
        """Exactly one optimiser step."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        scores, targets = self._forward_pass(self.model, batch)
        loss = called(self.loss, scores, targets)
        if loss.ndim:
            raise MetricgradError(
                f"the loss returned a tensor of shape {tuple(loss.shape)}; expected one number, 0-d: make it with "
                "reduction='mean'"
            )
        if not (torch.isfinite(loss) and torch.isfinite(scores).all()):
            check_finite_data("train", self._train, batch)
            what = "the loss" if torch.isfinite(scores).all() else "the model's scores"
            raise DivergedError(
                f"{what} became non-finite in epoch {self.current_epoch}, step {index}, with lr={self._lr:g}; "
                "lower lr, or clip gradients in an optimizer of your own"
            )
        if loss.requires_grad:
            self.manual_backward(loss)
            optimizer.step()
        self._loss_sum += loss.detach()
        self._steps += 1
        self.begun = True

    def validation_step(self, batch: Any, index: int) -> None:
        """Keep the scores: a metric is of the whole validation part, not a mean over batches."""
        self._outputs.append(self._forward_pass(self.model, batch))

    def on_validation_epoch_end(self) -> None:
        """Judge by the metric, and keep the best weights; a NaN is never best."""
        scores, targets = (torch.cat(part) for part in zip(*self._outputs, strict=True))
        self._outputs.clear()
        self.output = self.output or output_of(self.metric, scores, targets)
        threshold, value = judged_at(self.metric, scores, targets, self.threshold)
        row = {
            "epoch": self.current_epoch,
            "train_loss": float(self._loss_sum) / max(self._steps, 1),
            "valid": value,
            "seconds": time.perf_counter() - self._started,
        }
        if threshold is not None:
            row["threshold"] = threshold
        self.history.append(row)
        self.log_dict({k: float(row[k]) for k in ("train_loss", "valid")})
        if not math.isnan(value) and (self.best is None or self.metric.is_better(value, self.best["value"])):
            state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"value": value, "threshold": threshold, "epoch": self.current_epoch, "state": state}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain containers and tensors only: loading unpickles nothing else."""
        checkpoint["metricgrad"] = {"config": self._config, "history": self.history, "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up where the interrupted run stopped."""
        saved = checkpoint["metricgrad"]
        self.history, self.best = saved["history"], saved["best"]
        if self.best is not None:
            own, kept = self.model.state_dict(), self.best["state"]
            if not fits(self.best, Best) or {n: v.shape for n, v in own.items()} != {
                n: v.shape for n, v in kept.items()
            }:
                raise MetricgradError("last.ckpt keeps weights of another model; pass resume=False to train anew")
