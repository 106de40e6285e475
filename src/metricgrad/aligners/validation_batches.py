"""Validation batches without end, from any iterable, at a place that survives a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.aligners.isolation import kept_randomness, seed
from metricgrad.errors import MetricgradError
from metricgrad.on_host import OnHost


class EndlessBatches:
    """Draws batches in turn, pass after pass.

    Whatever is random in them (shuffling by a DataLoader, a dataset's transforms with torch's generator) follows from
    the seed, the pass and the place in it; the global random state is left alone.

    Args:
        batches: can be iterated more than once: a list or a DataLoader, not a generator.
        cursor: ``(2,)`` int64, the pass and the place in it; kept up to date.
        seed: of the draws.
        device: where the batches' tensors go.
    """

    def __init__(self, batches: Iterable[Any], cursor: Tensor, seed: int, device: torch.device) -> None:
        if isinstance(batches, Iterator):
            raise MetricgradError(
                "valid is a generator, which is used up after one pass; pass a list of batches or a DataLoader"
            )
        self._batches, self._cursor, self._seed, self._device = batches, cursor, seed, device
        self._at = OnHost(lambda cursor: cursor.tolist())
        self._open: Iterator[Any] | None = None
        sampler = getattr(batches, "sampler", None)
        own = (getattr(part, "generator", None) for part in (batches, sampler))
        self._generators = [part for part in own if isinstance(part, torch.Generator)]

    def draw(self) -> Any:
        """The next batch.

        Raises:
            MetricgradError: where there is none.
        """
        with kept_randomness(self._device), _kept(self._generators):
            if self._open is None:
                self._begin(skip=self._at.of(self._cursor)[1])
            found = self._next()
            if found is None:
                self._move_to(self._at.of(self._cursor)[0] + 1, 0)
                self._begin(skip=0)
                found = self._next()
        if found is None:
            raise MetricgradError("valid has no batch; pass at least one")
        return moved_to(found[0], self._device)

    def _begin(self, skip: int) -> None:
        seed(self._mixed(-1), self._device)
        for generator in self._generators:
            generator.manual_seed(self._mixed(-1))
        self._open = iter(self._batches)
        self._move_to(self._at.of(self._cursor)[0], 0)
        for _ in range(skip):
            if self._next() is None:
                return

    def _next(self) -> tuple[Any] | None:
        assert self._open is not None
        turn, place = self._at.of(self._cursor)
        seed(self._mixed(place), self._device)
        try:
            batch = next(self._open)
        except StopIteration:
            return None
        self._move_to(turn, place + 1)
        return (batch,)

    def _move_to(self, turn: int, place: int) -> None:
        for part, number in zip(self._cursor, (turn, place), strict=True):
            part.fill_(number)
        self._at.wrote(self._cursor, [turn, place])

    def _mixed(self, index: int) -> int:
        return (self._seed * 1_000_003 + self._at.of(self._cursor)[0] * 7_919 + index + 2) % 2**32


@contextlib.contextmanager
def _kept(generators: list[torch.Generator]) -> Iterator[None]:
    """Generators of a loader's own, which the training's may share, are afterwards as before."""
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def checked_batches(batches: Any, forward: Forward = default_forward) -> None:
    """Refuse what is no collection of batches.

    Raises:
        MetricgradError: for a tensor, a number, a map-style Dataset, or (inputs, targets) that stand alone.
    """
    alone = isinstance(batches, tuple | list) and len(batches) == 2 and all(hasattr(part, "shape") for part in batches)
    kind = f"a {type(batches).__name__}"
    if forward is default_forward and alone:
        kind = "one batch of its own"
    elif isinstance(batches, Dataset) and not isinstance(batches, IterableDataset):
        kind += ", whose items are single rows and not batches"
    elif isinstance(batches, Iterable) and not isinstance(batches, Mapping | str) and not hasattr(batches, "shape"):
        return
    raise MetricgradError(f"valid is {kind}; expected batches: valid=[(inputs, targets)], or a DataLoader")


def moved_to(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device."""
    return with_tensors(batch, lambda tensor: tensor.to(device))


def with_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with its tensors changed, whatever tuples, named tuples, lists and dicts they are in."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {name: with_tensors(part, change) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [with_tensors(part, change) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
