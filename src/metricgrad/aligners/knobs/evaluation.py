"""Scoring validation rows in the middle of somebody's training, and leaving no trace in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from metricgrad.aligners.base import Forward, TrainingContext, default_forward
from metricgrad.aligners.validation_batches import moved_to
from metricgrad.decisions.threshold import choose_threshold, needs_threshold
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric

_CANDIDATES = 32


def scored(model: nn.Module, forward: Forward, batches: Sequence[Any], rows: int | None) -> tuple[Tensor, Tensor]:
    """Scores and targets of the first rows, the model in eval mode and without gradients.

    Raises:
        MetricgradError: where there is no batch.
    """
    if not batches:
        raise MetricgradError("valid is empty; give at least one validation batch")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with standing_still(model), torch.no_grad():
        pairs = [forward(model, moved_to(batch, device)) for batch in batches]
    scores, targets = (torch.cat(part)[:rows] for part in zip(*pairs, strict=True))
    return scores, targets


def scored_on_all(training: TrainingContext, batches: Sequence[Any], rows: int | None) -> tuple[Tensor, Tensor]:
    """:func:`scored` on every rank: the rows of all."""
    loss = training.loss
    return loss.ranks.joined(loss, lambda: (*scored(training.model, training.scored, batches, rows), {}))[:2]


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


def first_rows(batches: Iterable[Any], rows: int | None) -> list[Any]:
    """The first batches, as many as hold so many rows; a loader's own draws do not count in the user's training."""
    state = torch.get_rng_state()
    kept, count = [], 0
    for batch in batches:
        kept.append(batch)
        count += _rows_of(batch)
        if rows is not None and count >= rows:
            break
    torch.set_rng_state(state)
    return kept


def rows_held(batches: object) -> int | None:
    """How many rows there are, at most, where that is known without reading them."""
    if isinstance(batches, list | tuple):
        parts = [_leading(batch) for batch in batches]
        return None if None in parts else sum(part for part in parts if part is not None)
    if isinstance(batches, DataLoader) and (
        batches.batch_size is not None or isinstance(batches.sampler, BatchSampler)
    ):
        try:
            return len(batches.dataset)  # pyright: ignore[reportArgumentType] - a TypeError where it has no length
        except TypeError:
            return None
    return None


def spread_rows(batches: Iterable[Any], most: int | None, rows: int | None, forward: Forward) -> list[Any]:
    """So many rows, evenly spread over the first ``most``.

    Only pairs of tensors can be cut; of other batches the first are taken, as many as hold so many rows.
    """
    kept = first_rows(batches, most if forward is default_forward else rows)
    total = sum(_rows_of(batch) for batch in kept)
    if rows is None or total <= rows or forward is not default_forward or not all(_is_pair(batch) for batch in kept):
        return kept
    index = spread(min(total, most or total), rows)
    found, begin = [], 0
    for batch in kept:
        here = index[(index >= begin) & (index < begin + len(batch[0]))] - begin
        begin += len(batch[0])
        if len(here):
            found.append(tuple(part[here.to(part.device)] for part in batch))
    return found


def spread(total: int, rows: int) -> Tensor:
    """The numbers of so many rows, evenly spread over all."""
    return torch.arange(total) if total <= rows else torch.arange(rows) * total // rows


def judged(metric: Metric, scores: Tensor, targets: Tensor, *, best: bool) -> float:
    """The metric of some rows; where it reads labels of one score, ``best`` takes the best of 32 thresholds."""
    if best and needs_threshold(metric, scores, targets):
        return choose_threshold(metric, scores, targets, _CANDIDATES)[1]
    return float(metric(scores, targets))


def _is_pair(batch: Any) -> bool:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        return False
    return all(isinstance(part, Tensor) and part.ndim > 0 for part in batch) and len(batch[0]) == len(batch[1])


def _rows_of(batch: Any) -> int:
    """How many items a batch has, by its first tensor."""
    return _leading(batch) or 1


def _leading(batch: Any) -> int | None:
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else [batch]
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), None)
