"""Scoring validation rows in the middle of somebody's training, and leaving no trace in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import Forward
from metricgrad.errors import MetricgradError


def scored(model: nn.Module, forward: Forward, batches: Sequence[Any], rows: int | None) -> tuple[Tensor, Tensor]:
    """Scores and targets of the first rows, the model in eval mode and without gradients.

    Raises:
        MetricgradError: where there is no batch.
    """
    if not batches:
        raise MetricgradError("valid is empty; give at least one validation batch")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with standing_still(model), torch.no_grad():
        pairs = [forward(model, moved(batch, device)) for batch in batches]
    scores, targets = (torch.cat(part)[:rows] for part in zip(*pairs, strict=True))
    return scores, targets


@contextmanager
def standing_still(model: nn.Module) -> Iterator[None]:
    """Eval mode, every part back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def moved(batch: Any, device: torch.device) -> Any:
    """A batch of tensors, tuples, lists and dicts on another device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [moved(value, device) for value in batch]
    return batch


def first_rows(batches: Iterable[Any], rows: int | None) -> list[Any]:
    """The first batches, as many as hold so many rows; a loader's own draws do not count in the person's training."""
    state = torch.get_rng_state()
    kept, count = [], 0
    for batch in batches:
        kept.append(batch)
        count += _rows_of(batch)
        if rows is not None and count >= rows:
            break
    torch.set_rng_state(state)
    return kept


def _rows_of(batch: Any) -> int:
    """How many items a batch has, by its first tensor."""
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else [batch]
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), 1)
