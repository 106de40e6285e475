"""Passes that leave no trace: random states, buffers and autocast as they were at some moment; copies of values."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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
def borrowed_buffers(model: nn.Module) -> Iterator[None]:
    """The model works on copies of its buffers, so that running statistics stay as they are."""
    homes = [(module, name) for module in model.modules() for name, b in module._buffers.items() if b is not None]
    own = [module._buffers[name] for module, name in homes]
    copies: dict[int, Tensor] = {id(buffer): buffer.detach().clone() for buffer in own if buffer is not None}
    try:
        for (module, name), buffer in zip(homes, own, strict=True):
            module._buffers[name] = copies[id(buffer)]
        yield
    finally:
        for (module, name), buffer in zip(homes, own, strict=True):
            module._buffers[name] = buffer


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
def untouched(loss: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Whatever a training step inside changes is afterwards as before."""
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    parameters = list(dict.fromkeys([*model.parameters(), *stepped]))
    values = [p.detach().clone() for p in parameters]
    gradients = [p.grad for p in parameters]
    states = optimizer.state
    own = [*loss.parameters(), *loss.buffers()]
    kept = [t.detach().clone() for t in own]
    mode = loss.training
    with kept_randomness(device_of(parameters)), borrowed_buffers(model), torch.enable_grad():
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
