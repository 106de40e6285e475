"""Passes that leave no trace: random states, buffers and autocast as they were at some moment; copies of values."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from metricgrad.aligners.base import AlignedLoss


@dataclass(frozen=True)
class Randomness:
    """The states of the CPU's and of one CUDA device's generator.

    Attributes:
        cpu: of the CPU.
        cuda: of the device, where the model is on one.
        device: that device.
    """

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device | None

    @classmethod
    def now(cls, device: torch.device) -> Randomness:
        """As they are."""
        on_cuda = device.type == "cuda"
        return cls(
            torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_cuda else None, device if on_cuda else None
        )

    def restore(self) -> None:
        """Set them."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and self.device is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def seed(number: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's; ``torch.manual_seed`` formats a traceback for CUDA each time."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)


@contextlib.contextmanager
def kept_randomness(device: torch.device, start: Randomness | None = None) -> Iterator[None]:
    """Whatever is drawn inside, from ``start`` where given, the random states are afterwards as before."""
    here = Randomness.now(device)
    try:
        if start is not None:
            start.restore()
        yield
    finally:
        here.restore()


@contextlib.contextmanager
def kept_all_randomness() -> Iterator[None]:
    """Every global random state is afterwards as before, also where an error ends what is done inside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), kept_foreign_randomness():
        yield


@contextlib.contextmanager
def kept_foreign_randomness() -> Iterator[None]:
    """The random states of Python's ``random`` and of NumPy are afterwards as before."""
    numpy: Any = sys.modules.get("numpy.random")
    here = random.getstate(), None if numpy is None else numpy.get_state()
    try:
        yield
    finally:
        random.setstate(here[0])
        if numpy is not None:
            numpy.set_state(here[1])


class Place(NamedTuple):
    """Where a module holds a tensor, or another object, and one that may stand there.

    Attributes:
        store: the module's parameters, buffers or attributes.
        name: in it.
        value: what may stand there.
    """

    store: dict[str, Any]
    name: str
    value: Any


@contextlib.contextmanager
def standing(places: Iterable[Place]) -> Iterator[None]:
    """Inside, the values stand at their places; afterwards, what stood there before does.

    A module that is registered under two names has each of its places once, where ``functional_call`` swaps it twice
    and leaves the wrong tensor behind.
    """
    places = list(places)
    before = [place.store[place.name] for place in places]
    try:
        for place in places:
            place.store[place.name] = place.value
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.store[place.name] = value


def modules_of(module: nn.Module) -> list[nn.Module]:
    """As ``module.modules()``, which makes up names on the way and takes five times as long."""
    found: dict[nn.Module, None] = {}
    waiting: list[nn.Module | None] = [module]
    while waiting:
        part = waiting.pop()
        if part is not None and part not in found:
            found[part] = None
            waiting += reversed(part._modules.values())
    return list(found)


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """As ``module.parameters()``, likewise."""
    stand = (p for part in modules_of(module) for p in part._parameters.values() if p is not None)
    return list({id(p): p for p in stand}.values())


def parameter_places(module: nn.Module, values: Mapping[Tensor, Tensor]) -> list[Place]:
    """Where each of these parameters stands, with what may stand there for it."""
    if not values:
        return []
    return [
        Place(part._parameters, name, values[p])
        for part in modules_of(module)
        for name, p in part._parameters.items()
        if p is not None and p in values
    ]


def buffer_places(module: nn.Module) -> list[Place]:
    """Where each buffer stands, with a copy of it; buffers that are one have one copy."""
    stand = [(part._buffers, name, b) for part in modules_of(module) for name, b in part._buffers.items()]
    copies = {id(buffer): buffer.detach().clone() for _, _, buffer in stand if buffer is not None}
    return [Place(store, name, copies[id(buffer)]) for store, name, buffer in stand if buffer is not None]


def again(places: Sequence[Place]) -> list[Place]:
    """The same places with fresh copies of their tensors."""
    copies = {id(place.value): place.value.clone() for place in places}
    return [Place(place.store, place.name, copies[id(place.value)]) for place in places]


_OWN = frozenset(nn.Module().__dict__)
_COLLECTIONS = (list, dict, set, deque, defaultdict, OrderedDict, Counter)


@contextlib.contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """The model works on copies of its buffers and attributes: running statistics and counters stay as they are."""
    stood = [(part.__dict__, part.__dict__.copy()) for part in modules_of(model)]
    with standing(buffer_places(model)):
        for attributes, before in stood:
            for name in before.keys() - _OWN:
                attributes[name] = _copy_of(before[name])
        try:
            yield
        finally:
            for attributes, before in stood:
                for name in attributes.keys() - before.keys():
                    del attributes[name]
                attributes.update(before)


class _WithoutReentry:
    """Stands for the function of ``checkpoint(..., use_reentrant=True)``, through which only ``backward()`` goes."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        """The checkpoint of the other kind."""
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)


def plain_checkpoints() -> contextlib.AbstractContextManager[None]:
    """Reentrant checkpoints can be differentiated inside in every way."""
    return standing([Place(checkpoint.__dict__, "CheckpointFunction", _WithoutReentry)])


def _copy_of(value: Any) -> Any:
    """Of collections and tensors, which a forward pass may write into."""
    if type(value) in _COLLECTIONS:
        return copy.copy(value)
    return value.detach().clone() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) else value


@dataclass(frozen=True)
class Autocast:
    """Whether autocast was on, and to what.

    Attributes:
        device: its device type.
        enabled: whether it was on.
        dtype: what it casts to.
    """

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: torch.device) -> Autocast:
        """As it is."""
        kind = device.type
        return cls(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))

    def again(self) -> torch.autocast:
        """A context in the same state; casts are not cached, because the cache would mix up runs."""
        return torch.autocast(self.device, self.dtype, self.enabled, cache_enabled=False)


def copied(spare: dict[Tensor, Tensor], parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of a value of a parameter, in the memory of the last one: fresh memory costs more than the copying."""
    value, place = value.detach(), spare.get(parameter)
    if place is None or (place.shape, place.dtype, place.device) != (value.shape, value.dtype, value.device):
        place = spare[parameter] = torch.empty_like(value)
    return place.copy_(value)


def device_of(tensors: Sequence[Tensor]) -> torch.device:
    """Of the first of them; the CPU where there is none."""
    return tensors[0].device if tensors else torch.device("cpu")


@contextlib.contextmanager
def untouched(loss: AlignedLoss, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Whatever a training step inside changes is afterwards as before."""
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    parameters = list(dict.fromkeys([*model.parameters(), *stepped]))
    values = [p.detach().clone() for p in parameters]
    gradients = [p.grad for p in parameters]
    states = optimizer.state
    own = [*loss.parameters(), *loss.buffers()]
    kept = [t.detach().clone() for t in own]
    mode = loss.training
    counters = torch.autograd.grad_mode._unsafe_preserve_version_counter(
        tuple(parameters)
    )  # a graph may be waiting for backward
    still = kept_randomness(device_of(parameters)), kept_foreign_randomness(), borrowed(model)
    with counters, still[0], still[1], still[2], torch.enable_grad():
        try:
            optimizer.state = defaultdict(dict, {p: copy.deepcopy(state) for p, state in states.items()})
            for p in parameters:
                p.grad = None
            loss.train()
            yield
        finally:
            optimizer.state = states
            loss.train(mode)
            with torch.no_grad():
                for tensor, value in zip([*parameters, *own], [*values, *kept], strict=True):
                    tensor.copy_(value)
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
