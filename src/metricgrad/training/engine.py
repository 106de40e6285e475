"""The LightningModule behind ``fit``: one optimiser step at a time, judged once an epoch by the metric."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import replace
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.errors import FailedRunError, MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.calling import called
from metricgrad.progress import ProgressBar
from metricgrad.training.batches import Epochs, check_finite_data
from metricgrad.training.options import Recipe
from metricgrad.training.outputs import Output, output_of
from metricgrad.training.run_folder.folder import RunFolder
from metricgrad.training.run_record import RunRecord

EPOCH_AS_BATCH = range(1)
"""What Lightning iterates over: the one batch that an epoch is to it."""


class DivergedError(FailedRunError):
    """Training went astray with these settings; others may work."""


class Engine(lightning.LightningModule):
    """Model and loss together, so that a checkpoint carries both.

    The optimiser is stepped by hand (Lightning's manual optimisation): an aligner's optimiser hooks then see
    forward, backward and step in the order of a hand-written loop, not a step that contains the forward pass.

    To Lightning an epoch is one batch (:data:`EPOCH_AS_BATCH`), whose own batches are taken here: what Lightning does
    around a batch takes as long as the step of a small network, and nobody listens to it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        record: RunRecord,
        recipe: Recipe,
        *,
        forward: Forward | None,
        epochs: Epochs,
        train: Any,
        valid: Iterable[Any],
        folder: RunFolder | None,
        progress: bool,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss = model, loss
        self.record = record
        self.begun = False  # whether a step was taken since the training was taken up
        self.output: Output | None = None
        self.recipe, self.folder, self.epochs = recipe, folder, epochs
        self._custom_forward, self._forward_pass = forward, forward or default_forward
        self._train, self._valid = train, valid
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._handle: Any = None
        self._bar = ProgressBar(self.total_steps, "fit", record.epoch * (self.steps or 0), shown=progress)

    @property
    def steps(self) -> int | None:
        """In an epoch, where known."""
        return len(self.epochs) if isinstance(self.epochs, Sized) else None

    @property
    def total_steps(self) -> int | None:
        """Of the whole run, where known."""
        return None if self.steps is None else self.steps * self.recipe.epochs

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The user's optimiser over the model's parameters; the loss's own belong to its aligner."""
        return self.recipe.make_optimizer(self.model.parameters())

    def on_fit_start(self) -> None:
        """Attach a loss that moves while the network trains; a run that was over goes no further."""
        self.trainer.should_stop = self._over()
        attach = getattr(self.loss, "attach", None)
        if attach is not None:
            optimizer = self.trainer.optimizers[0]
            self._handle = attach(
                self.model, optimizer, valid=self._valid, forward=self._custom_forward, total_steps=self.total_steps
            )

    def close(self) -> None:
        """Take the loss's hooks off the model and the optimiser, and the bar off the screen."""
        self._bar.close()
        if self._handle is not None:
            self._handle.detach()
            self._handle = None

    def on_train_epoch_start(self) -> None:
        """Fix the epoch's random choices."""
        self.epochs.epoch = self.current_epoch
        self.record.begin()
        self._loss_sum, self._done = torch.zeros((), device=self.device), 0

    def training_step(self, batch: Any, index: int) -> None:
        """All steps of an epoch."""
        for number, own in enumerate(self.epochs):
            if self.trainer.received_sigterm:
                raise SIGTERMException
            self.step(self.transfer_batch_to_device(own, self.device, 0), number)
            self._bar.advance()

    def step(self, batch: Any, index: int) -> None:
        """Exactly one optimiser step."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        scores, targets = self._forward_pass(self.model, batch)
        if not isinstance(self.loss, Loss):  # which reads for itself
            scores, targets = self._left(scores, targets)
        loss = called(self.loss, scores, targets, class_dim=self.record.metric.class_targets.class_dim or -1)
        if loss.ndim:
            raise MetricgradError(
                f"the loss returned a tensor of shape {tuple(loss.shape)}; expected one number, 0-d: make it with "
                "reduction='mean'"
            )
        if not (torch.isfinite(loss) and torch.isfinite(scores).all()):
            check_finite_data("train", self._train, batch)
            what = "the loss" if torch.isfinite(scores).all() else "the model's scores"
            raise DivergedError(
                f"{what} became non-finite in epoch {self.current_epoch}, step {index}, with lr={self.recipe.lr:g}; "
                "lower lr, or clip gradients in an optimizer of your own"
            )
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        self._loss_sum += loss.detach()
        self._done += 1
        self.begun = True

    def _left(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of a batch without the targets that the metric ignores; as it came where none is."""
        classes = self.record.metric.class_targets
        if classes.ignore_index is None:
            return scores, targets
        kept, labels = replace(classes, pos_label=None).pairs(scores, targets)
        return (scores, targets) if labels.numel() == targets.numel() else (kept, labels)

    def validation_step(self, batch: Any, index: int) -> None:
        """Keep the scores: a metric is of the whole validation part, not a mean over batches."""
        self._outputs.append(self._forward_pass(self.model, batch))

    def on_validation_epoch_end(self) -> None:
        """Judge by the metric, and note it."""
        scores, targets = (torch.cat(part) for part in zip(*self._outputs, strict=True))
        self._outputs.clear()
        self.output = self.output or output_of(self.record.metric, scores, targets)
        loss = float(self._loss_sum) / max(self._done, 1)
        (row,) = self.record.judge([scores], targets, [loss], lambda _: self._weights())
        self._bar.show(row["valid"])
        if self.folder is not None:
            self.folder.write_values(self.record)
        self.trainer.should_stop = self._over()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Our part beside Lightning's; ``fit`` reads it before the engine is made."""
        if self.folder is not None:
            checkpoint["metricgrad"] = self.folder.state(self.record)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _over(self) -> bool:
        return self.record.over(self.recipe.epochs)
