"""The look ahead of higher and TorchOpt, as their users write it: unroll the optimiser's step, and keep the step.

Both are optional and old; install them with ``pip install --no-deps higher torchopt optree graphviz``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metricgrad.losses.base import CallContext, Form

PEERS = ("higher", "torchopt")
RATE, MOMENTUM = 0.01, 0.9
Batch = tuple[Tensor, Tensor]
Step = Callable[[], list[Tensor]]


def installed(name: str) -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec(name) is not None


def peer_step(name: str, model: nn.Module, form: Form, train: Batch, valid: Batch) -> Step:
    """A training step of SGD with momentum that moves the form too, and returns the hypergradient."""
    phi = [p.requires_grad_() for p in form.parameters()]
    meta = torch.optim.Adam(phi, lr=1e-3)
    call = CallContext(0, 0, counts=False)

    def learned(scores: Tensor) -> Tensor:
        return form(scores, train[1], call=call)

    def judged(scores: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, valid[1])

    ways = {"higher": _higher, "torchopt": _torchopt}
    look = ways[name](model, train[0], valid[0], learned, judged, phi)

    def step() -> list[Tensor]:
        found = look()
        for p, gradient in zip(phi, found, strict=True):
            p.grad = gradient
        meta.step()
        return found

    return step


Value = Callable[[Tensor], Tensor]


def _higher(model: nn.Module, x: Tensor, v: Tensor, learned: Value, judged: Value, phi: list[nn.Parameter]) -> Step:
    import higher  # type: ignore[import-not-found]  # optional

    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)

    def look() -> list[Tensor]:
        with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (functional, differentiable):
            differentiable.step(learned(functional(x)))
            found = torch.autograd.grad(judged(functional(v)), phi, allow_unused=True)
            with torch.no_grad():  # its step becomes the model's; the momentum it kept is lost, as with its users
                for old, new in zip(model.parameters(), functional.parameters(), strict=True):
                    old.copy_(new)
        return _filled(found, phi)

    return look


def _torchopt(model: nn.Module, x: Tensor, v: Tensor, learned: Value, judged: Value, phi: list[nn.Parameter]) -> Step:
    import torchopt  # type: ignore[import-not-found]  # optional

    optimizer = torchopt.MetaSGD(model, lr=RATE, momentum=MOMENTUM)

    def look() -> list[Tensor]:
        optimizer.step(learned(model(x)))
        found = torch.autograd.grad(judged(model(v)), phi, allow_unused=True)
        torchopt.stop_gradient(model)
        torchopt.stop_gradient(optimizer)
        return _filled(found, phi)

    return look


def _filled(found: tuple[Tensor | None, ...], phi: list[nn.Parameter]) -> list[Tensor]:
    return [torch.zeros_like(p) if gradient is None else gradient for p, gradient in zip(phi, found, strict=True)]
