"""``fit``: train a model on a loss, keep the weights that are best by the validation metric."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from metricgrad.metric import Metric, as_metric


@dataclass
class FitResult:
    """What training delivers: the model with its best weights, and how it came about."""

    model: nn.Module
    metric: Metric
    threshold: float | None
    history: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None


class _Engine(lightning.LightningModule):
    def __init__(self, model: nn.Module, loss: nn.Module, metric: Metric, lr: float, weight_decay: float) -> None:
        super().__init__()
        self.model, self.loss, self.metric = model, loss, metric
        self.lr, self.weight_decay = lr, weight_decay
        self.outputs: list[tuple[Tensor, Tensor]] = []
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        return self.loss(self.model(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        inputs, targets = batch
        self.outputs.append((self.model(inputs), targets))

    def on_validation_epoch_end(self) -> None:
        scores, targets = (torch.cat(part) for part in zip(*self.outputs, strict=True))
        self.outputs.clear()
        value = float(self.metric(scores, targets))
        self.history.append({"epoch": self.current_epoch, "valid": value})
        if self.best is None or self.metric.is_better(value, self.best[0]):
            self.best = (value, copy.deepcopy(self.model.state_dict()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    *,
    metric: str | Metric,
    loss: nn.Module | Callable[..., Any],
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    epochs: int = 20,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> FitResult:
    """Train ``model`` on ``loss`` and return it with the weights that were best by ``metric`` on ``valid``."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(seed, verbose=False)
    engine = _Engine(model, loss, as_metric(metric), lr, weight_decay)  # type: ignore[arg-type]
    shuffled = DataLoader(
        TensorDataset(*train), batch_size=batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer.fit(engine, shuffled, DataLoader(TensorDataset(*valid), batch_size=1024))
    assert engine.best is not None
    model.load_state_dict(engine.best[1])
    return FitResult(model, engine.metric, None, engine.history)
