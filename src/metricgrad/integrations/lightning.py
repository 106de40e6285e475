"""Lightning: a callback that aligns the loss of a LightningModule of one's own while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.errors import MetricgradError
from metricgrad.handle import Handle
from metricgrad.integrations.finding import loss_in
from metricgrad.loss import Loss
from metricgrad.training.chunked_forward import ChunkedForward, in_chunks

_STATE = "metricgrad_loss"


class AlignLoss(lightning.Callback):
    """Attaches a loss when training begins and detaches it when it ends; the module stays as it is.

    ``Trainer(callbacks=[AlignLoss()])`` is all that a module needs whose ``self.loss`` is a loss of ours, ALA and
    AdaLFL included. It also tells the loss how many optimiser steps there will be, which UniLoss and whatever else is
    anchored go by. Under automatic and manual optimisation, gradient accumulation and clipping.

    The validation batches are those of the trainer, from its datamodule or wherever they come from. They then steer
    the training, so what is reported of them is no held-out value: pass other ones where that matters. They are moved
    to the model's device and brought to the trainer's ``precision``; ``on_after_batch_transfer`` is not called on them.

    Args:
        loss: the loss; by default the one that the LightningModule holds. One that it does not hold is kept in the
            checkpoint by this callback.
        model: the module whose output the scores are, or its name in the LightningModule; by default the
            LightningModule itself, whose ``forward`` validation batches go through.
        valid: validation batches, any iterable that can be iterated again; by default the trainer's. ``()`` for none.
        forward: ``forward(model, batch) -> (scores, targets)`` for batches that are not ``(inputs, targets)``, such as
            dicts.
        optimizer: which of the module's optimisers, where it has several.
        microbatch: so many rows of a batch are taken forward and backward at a time, in the memory of these, while the
            loss is one of the whole batch, and so is its gradient: large batches of a loader in place of
            ``accumulate_grad_batches``, which adds up losses of small ones (docs/large-batches.md). ``model``, whose
            output must be the scores, then scores each batch twice.
        total_steps: optimiser steps of the whole training; by default those that the trainer foresees, which under
            manual optimisation takes each batch for a step: say it where the module steps less often or ends sooner.

    Raises:
        MetricgradError: when training begins, where the loss or the model cannot be told, where several loaders of
            validation batches are there and none was named, and what :meth:`metricgrad.Loss.attach` refuses; after a
            batch, where ``training_step`` has not called the model that ``microbatch`` is for.

    Example:
        >>> import lightning, torch, metricgrad as mg
        >>> from metricgrad.integrations.lightning import AlignLoss
        >>> class Classifier(lightning.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net, self.loss = torch.nn.Linear(4, 3), mg.AdaLFL(num_outputs=3)
        ...     def forward(self, inputs):
        ...         return self.net(inputs)
        ...     def training_step(self, batch, index):
        ...         return self.loss(self(batch[0]), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.net.parameters(), lr=0.1)
        >>> rows = torch.utils.data.TensorDataset(torch.randn(16, 4), torch.arange(16) % 3)
        >>> batches = torch.utils.data.DataLoader(rows, batch_size=8)
        >>> quiet = {
        ...     "logger": False, "enable_progress_bar": False, "enable_checkpointing": False,
        ...     "enable_model_summary": False,
        ... }
        >>> trainer = lightning.Trainer(
        ...     max_epochs=1, accelerator="cpu", callbacks=[AlignLoss(valid=batches)], **quiet
        ... )
        >>> module = Classifier()
        >>> trainer.fit(module, batches)
        >>> int(module.loss.aligner.updates)
        2
    """

    def __init__(
        self,
        loss: Loss | None = None,
        *,
        model: nn.Module | str | None = None,
        valid: Iterable[Any] | None = None,
        forward: Forward | None = None,
        optimizer: int = 0,
        microbatch: int | None = None,
        total_steps: int | None = None,
    ) -> None:
        if loss is not None and not isinstance(loss, Loss):
            raise MetricgradError(
                f"loss is a {type(loss).__name__}; expected one of ours, such as mg.UniLoss('accuracy')"
            )
        self._loss, self._model, self._valid, self._forward = loss, model, valid, forward
        self._optimizer, self._microbatch, self._total_steps = optimizer, microbatch, total_steps
        self._chunked: ChunkedForward | None = None
        self._handles: list[Handle] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Attach: optimisers and validation batches are there now."""
        loss = self._loss_of(pl_module)
        if not 0 <= self._optimizer < len(trainer.optimizers):
            name, count = type(pl_module).__name__, len(trainer.optimizers)
            raise MetricgradError(f"optimizer is {self._optimizer}, and {name} has {count} optimisers")
        valid = _batches_of(trainer) if self._valid is None and loss.aligner.reads_valid else self._valid
        valid = None if valid == () else valid
        steps = trainer.estimated_stepping_batches
        foreseen = int(steps) if 0 < steps < float("inf") else None
        model = self._model_of(pl_module, valid is not None or self._microbatch is not None)
        handle = loss.attach(
            model,
            trainer.optimizers[self._optimizer],
            valid=valid,
            forward=self._forward_of(trainer),
            total_steps=foreseen if self._total_steps is None else self._total_steps,
        )
        self._handles.append(handle)
        if self._microbatch is not None:
            self._chunked, handle = in_chunks(model, self._microbatch)
            self._handles.append(handle)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """See that batches go through what was to take them in chunks."""
        if self._chunked is not None and not self._chunked.calls:
            raise MetricgradError(
                f"microbatch is {self._microbatch}, and training_step of {type(pl_module).__name__} has not called "
                f"the {type(self._chunked.model).__name__} that it is for; name the part that makes the scores, "
                "AlignLoss(model='net', microbatch=...)"
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the hooks off."""
        self._detach()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Also where training broke off."""
        self._detach()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep a loss that is no part of the module."""
        if self._loss is not None and self._loss not in set(pl_module.modules()):
            checkpoint[_STATE] = self._loss.state_dict()

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with it."""
        if self._loss is not None and _STATE in checkpoint:
            self._loss.load_state_dict(checkpoint[_STATE])

    def _detach(self) -> None:
        while self._handles:
            self._handles.pop().detach()
        self._chunked = None

    def _loss_of(self, module: lightning.LightningModule) -> Loss:
        return self._loss or loss_in(module, "pass the one to align: AlignLoss(loss)")

    def _forward_of(self, trainer: lightning.Trainer) -> Forward | None:
        plugin = trainer.precision_plugin
        if type(plugin).convert_input is Precision.convert_input:
            return self._forward
        forward = self._forward or default_forward
        return lambda model, batch: forward(model, plugin.convert_input(batch))

    def _model_of(self, module: lightning.LightningModule, is_scored: bool) -> nn.Module:
        if isinstance(self._model, nn.Module):
            return self._model
        if self._model is not None:
            try:
                return module.get_submodule(self._model)
            except AttributeError as error:
                parts = ", ".join(map(repr, dict(module.named_children()))) or "none"
                raise MetricgradError(
                    f"model is {self._model!r}, which {type(module).__name__} has not; its parts are {parts}"
                ) from error
        if is_scored and self._forward is None and not is_overridden("forward", module, lightning.LightningModule):
            raise MetricgradError(
                f"{type(module).__name__} has no forward that batches could go through; pass the part that "
                "makes the scores, AlignLoss(model='net'), or forward=lambda model, batch: (scores, targets)"
            )
        return module


def _batches_of(trainer: lightning.Trainer) -> Iterable[Any] | None:
    """The trainer's validation batches; None where it has none.

    Raises:
        MetricgradError: where it has several loaders.
    """
    found: Any = trainer.val_dataloaders
    source = trainer.fit_loop.epoch_loop.val_loop._data_source
    if found is None and source.is_defined():  # of a module that validates nothing, or not in this epoch
        found = source.dataloader()
    several = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(several, list | tuple):
        return found
    if len(several) > 1:
        raise MetricgradError(
            f"the trainer has {len(several)} loaders of validation batches; pass the one that steers the loss: "
            "AlignLoss(valid=loader)"
        )
    return several[0] if several else None
