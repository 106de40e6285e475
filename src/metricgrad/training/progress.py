"""A progress bar that stays away from short runs."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

PATIENCE = 2.0


class Bar(Callback):
    """One bar over all training steps, on stderr, shown once a run has lasted two seconds.

    As a callback it advances by itself; a loop without Lightning calls :meth:`advance` and :meth:`show`.
    """

    def __init__(self, total: int | None, done: int = 0, what: str = "fit") -> None:
        self._bar = tqdm(total=total, initial=done, delay=PATIENCE, leave=False, desc=what, unit="step")

    def advance(self) -> None:
        """By one step."""
        self._bar.update()

    def show(self, valid: float) -> None:
        """Say the epoch's validation value."""
        self._bar.set_postfix(valid=f"{valid:.4f}", refresh=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one step."""
        self.advance()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's validation value."""
        if "valid" in trainer.callback_metrics:
            self.show(float(trainer.callback_metrics["valid"]))

    def close(self) -> None:
        """Take the bar off the screen."""
        self._bar.close()
