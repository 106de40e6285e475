"""From tensors, arrays, a Dataset or a DataLoader to batches whose order depends on nothing but (seed, epoch)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

from metricgrad.checks import check_numbers, check_tensor, where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import checked_context
from metricgrad.training.balanced import ClassBalanced
from metricgrad.training.weighted_order import WeightedOrder

Data = Any
"""``(inputs, targets)`` or ``(inputs, targets, weights)`` of tensors or NumPy arrays, a Dataset, or an iterable of
batches such as a DataLoader. ``weights`` are ``(N,)`` numbers from 0 up: a row of weight 2 counts as two."""

_PARTS = ("inputs", "targets")
_WEIGHT = "sample_weight"


def as_tensor(values: Any, name: str = "values") -> Tensor:
    """A tensor of the default float type, or of int64; bool becomes int64.

    Raises:
        MetricgradError: for text, objects and whatever else is made of no numbers, under its name.
    """
    check_numbers(name, values)
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(_plain_array(values))
    if tensor.is_meta:
        check_tensor(name, tensor)  # refused
    if tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    return tensor if tensor.is_complex() else tensor.long()


def _plain_array(values: Any) -> np.ndarray:
    """As torch takes it: writable, without negative strides, no wider than float64."""
    array = np.asarray(values)
    if array.dtype == np.longdouble:
        return array.astype(np.float64)
    return array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()


def is_array(values: Any) -> bool:
    """Whether it is a tensor, an array or a data frame."""
    return hasattr(values, "shape")


def is_pair(data: Data) -> bool:
    """Whether data is ``(inputs, targets)``, with weights or without, rather than a Dataset or a loader."""
    return isinstance(data, (tuple, list)) and len(data) in (2, 3) and all(map(is_array, data))


def context_of(data: Data, name: str = "data") -> dict[str, Tensor]:
    """The ``sample_weight`` of ``(inputs, targets, weights)`` by that name; nothing of other data.

    Raises:
        MetricgradError: for weights that are not one for each row, negative, not finite, or all 0.
    """
    if not is_pair(data) or len(data) == 2:
        return {}
    weight = as_tensor(data[2], f"{name} weights").to(torch.get_default_dtype())
    rows = torch.Size(data[1].shape[:1])
    checked_context({_WEIGHT: weight}, rows, weight.device, takes=(_WEIGHT,), who=name)
    return {_WEIGHT: weight}


def pair_of(data: Data, name: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets as tensors of one length, without the weights.

    Raises:
        MetricgradError: for text, NaN among the targets, none at all, or lengths that differ.
    """
    inputs, targets = (as_tensor(part, f"{name} {what}") for part, what in zip(data[:2], _PARTS, strict=True))
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets):
        counts = [len(part) if part.ndim else "no" for part in (inputs, targets)]
        raise MetricgradError(f"{name} has {counts[0]} inputs but {counts[1]} targets; give as many of each")
    if not len(inputs):
        raise MetricgradError(f"{name} is empty; give at least one item")
    if found := where_not_finite(targets):
        raise MetricgradError(f"{name} targets hold {found}; leave those rows out, or fill them in")
    return inputs, targets


def check_data(data: Data, name: str) -> None:
    """Refuse what holds text or NaN targets, or looks like items but is no pair of arrays, naming the remedy."""
    if is_pair(data):
        pair_of(data, name)
        context_of(data, name)
        return
    argument = name.split()[-1]
    if isinstance(data, Dataset | DataLoader):
        return
    if is_array(data):
        raise MetricgradError(
            f"{name} is a {type(data).__name__} alone; pass inputs and targets: {argument}=(inputs, targets)"
        )
    if isinstance(data, str | dict):
        raise MetricgradError(
            f"{name} is a {type(data).__name__}; pass {argument}=(inputs, targets) as tensors or arrays"
        )
    if isinstance(data, (tuple, list)) and any(map(_plain, data)):
        raise MetricgradError(
            f"{name} is made of lists; pass tensors or arrays: {argument}=(np.asarray(inputs), np.asarray(targets))"
        )


def _plain(part: Any) -> bool:
    """Whether a list is of bare numbers or text at its end, however deep."""
    if not isinstance(part, (list, tuple)):
        return part is None or isinstance(part, str | int | float)
    while isinstance(part, (list, tuple)) and part:
        part = part[0]
    return isinstance(part, str | int | float | np.generic)


def loader(
    data: Data, batch_size: int, *, shuffle: bool, name: str, per_class: int | None = None, seed: int = 0
) -> Iterable[Any]:
    """An iterable of batches ``(inputs, targets)``; a loader given by the user is used as it is.

    Args:
        data: see :data:`Data`.
        batch_size: items in a batch.
        shuffle: whether the order is random; rows that have weights are then drawn as often as they weigh.
        name: of the argument, for messages.
        per_class: batches of ``batch_size // per_class`` classes with as many items of each, for
            ``(inputs, targets)`` and for a Dataset with the class numbers in ``targets``.
        seed: of those batches.

    Raises:
        MetricgradError: where inputs and targets differ in length, or data is nothing that can be iterated.
    """
    labelled = isinstance(data, Dataset) and isinstance(getattr(data, "targets", None), Tensor)
    if per_class is not None and not (is_pair(data) or labelled):
        raise MetricgradError(
            f"per_class={per_class} needs {name} as (inputs, targets) or a Dataset with targets (N,), got a "
            f"{type(data).__name__}; or give a DataLoader with batch_sampler=ClassBalanced(...)"
        )
    if is_pair(data):
        inputs, targets = pair_of(data, name)
        whole: Any = TensorDataset(inputs, targets)
        weight = context_of(data, name).get(_WEIGHT)
        if per_class is not None:
            if weight is not None:
                raise MetricgradError(
                    f"per_class={per_class} draws rows by their class, and {name} has weights of them; leave one out"
                )
            balanced = ClassBalanced(targets, classes=batch_size // per_class, per_class=per_class, seed=seed)
            return DataLoader(whole, batch_size=None, sampler=balanced)
        drawn = RandomSampler(whole) if weight is None else WeightedOrder(weight)
        order = drawn if shuffle else SequentialSampler(whole)
        # index a whole batch at once: collating single items costs more than a step of a small model
        return DataLoader(whole, batch_size=None, sampler=RowBatches(order, batch_size, drop_last=False))
    if isinstance(data, DataLoader):
        return data
    check_data(data, name)
    if isinstance(data, (list, tuple)):
        return DataLoader(data, batch_size=None)  # type: ignore[arg-type]  # a sequence serves as a Dataset
    if isinstance(data, Dataset) and per_class is not None:
        classes: Tensor = getattr(data, "targets")  # noqa: B009  (looked for above)
        balanced = ClassBalanced(classes, classes=batch_size // per_class, per_class=per_class, seed=seed)
        return DataLoader(data, batch_sampler=balanced)
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=batch_size, shuffle=shuffle)
    if isinstance(data, Iterable) and not isinstance(data, Iterator):
        return data
    raise MetricgradError(
        f"{name} is a {type(data).__name__}; give (inputs, targets), a Dataset, or an iterable of batches that can be "
        "iterated once an epoch (a list or a DataLoader, not a generator)"
    )


class RowBatches(BatchSampler):
    """Batches of row numbers as tensors, by which a tensor is indexed in half the time that a list takes."""

    def __iter__(self) -> Iterator[Any]:
        """A tensor for each batch."""
        yield from torch.tensor(list(self.sampler)).split(self.batch_size)


def check_finite_data(name: str, data: Data, batch: Any = None) -> None:
    """Once something went wrong: refuse inputs or targets that hold NaN or infinity, saying where.

    Args:
        name: of the argument.
        data: looked at where it is ``(inputs, targets)``.
        batch: the batch at hand, looked at otherwise.

    Raises:
        MetricgradError: how many rows, which, and which columns.
    """
    whole = is_pair(data)
    given = data if whole else batch
    if isinstance(given, dict):
        parts: list[tuple[str, Any]] = [(f"{name} batch's {key!r}", value) for key, value in given.items()]
    elif isinstance(given, (tuple, list)):
        names = [f"{name} {part}" if whole else f"{part} of a {name} batch" for part in _PARTS]
        parts = list(zip(names, given, strict=False))
    else:
        parts = []
    for what, values in parts:
        if is_array(values) and (found := where_not_finite(as_tensor(values, what))):
            raise MetricgradError(f"{what} hold {found}; leave those rows out, or fill them in")


def reseed(seed: int, epoch: int) -> None:
    """Set every global generator to a state that follows from the seed and the epoch alone."""
    mixed = (seed * 1_000_003 + epoch * 7_919 + 1) % 2**32
    # torch.manual_seed formats a traceback for CUDA each time, also where there is none
    (torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed)(mixed)
    np.random.seed(mixed)
    random.seed(mixed)


class Epochs:
    """A loader whose shuffling, and whatever else is random in an epoch, is fixed by (seed, epoch).

    A run resumed at epoch k then draws what an undisturbed run would have drawn there. A generator that a DataLoader
    or its sampler owns is re-seeded too, and a sampler that counts epochs, such as ClassBalanced, is told which it is.
    """

    def __init__(self, batches: Iterable[Any], seed: int, epoch: int = 0) -> None:
        self.batches, self.seed, self.epoch = batches, seed, epoch

    def __iter__(self) -> Iterator[Any]:
        reseed(self.seed, self.epoch)
        for owner in (self.batches, getattr(self.batches, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        for name in ("sampler", "batch_sampler"):
            set_epoch = getattr(getattr(self.batches, name, None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self.epoch)
        yield from self.batches


class SizedEpochs(Epochs):
    """Epochs of a loader that knows its number of batches."""

    def __len__(self) -> int:
        assert isinstance(self.batches, Sized)
        return len(self.batches)


def epochs_of(batches: Iterable[Any], seed: int, epoch: int = 0) -> Epochs:
    """Wrap a loader, keeping its length where it has one."""
    try:
        len(batches)  # type: ignore[arg-type]  # an IterableDataset's loader has __len__ and raises
    except TypeError:
        return Epochs(batches, seed, epoch)
    return SizedEpochs(batches, seed, epoch)
