"""Lightning's trainer for one run, and the device it would take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint

from metricgrad.errors import MetricgradError
from metricgrad.training.quiet import quiet
from metricgrad.training.run_folder.files import write_whole
from metricgrad.training.run_folder.folder import RunFolder


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are the old one or the whole new one, also where the temporary folder is on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the old one, then exchange."""
        write_whole(Path(path), checkpoint)


def trainer_of(folder: RunFolder | None, epochs: int, device: str) -> lightning.Trainer:
    """A trainer on one device that checkpoints into ``folder``, where there is one.

    Raises:
        MetricgradError: for a device that is not there.
    """
    kept = None
    if folder is not None:
        kept = ModelCheckpoint(
            folder.path, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
        )
    try:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator=device,
            devices=1,
            logger=False,
            callbacks=kept,
            plugins=[WholeFiles()],
            enable_checkpointing=folder is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
    except (ValueError, ImportError, MisconfigurationException) as error:
        raise MetricgradError(f"device={device!r} cannot be used here: {error}; pass device='cpu' or 'auto'") from error


def device_of(name: str) -> torch.device:
    """Where such a trainer would train.

    Raises:
        MetricgradError: for a device that is not there.
    """
    with quiet():
        return trainer_of(None, 1, name).strategy.root_device
