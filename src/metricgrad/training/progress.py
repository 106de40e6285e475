"""The progress bar of a training by Lightning."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from metricgrad.progress import ProgressBar


class LightningBar(ProgressBar, Callback):
    """One bar over all training steps, which advances by itself."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one step."""
        self.advance()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's validation value."""
        if "valid" in trainer.callback_metrics:
            self.show(float(trainer.callback_metrics["valid"]))
