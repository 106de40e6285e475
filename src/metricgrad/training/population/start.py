"""How a population begins: its data, its forms, and the faster way to train its children."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.training.batches import context_of, is_pair, pair_of
from metricgrad.training.options import Optimizer
from metricgrad.training.population.children import Children, Looped, Stacked

#: Optimisers that treat every number by itself, so that stacked children stay apart.
ELEMENTWISE: tuple[type[torch.optim.Optimizer], ...] = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad,
    torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD, torch.optim.Rprop,
)  # fmt: skip

_TIMED = 2


def tensors_of(part: Any, name: str, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Inputs and targets, on ``device`` where there is one.

    Raises:
        MetricgradError: for anything but a pair of as many of each, for weights, and for an empty one.
    """
    if not is_pair(part):
        raise MetricgradError(
            f"{name} is a {type(part).__name__}; a population takes (inputs, targets) as tensors or arrays, because "
            "every child goes through them in an order of its own"
        )
    if context_of(part, name):
        raise MetricgradError(f"{name} has weights, and a population takes none; leave them out, or train one model")
    inputs, targets = pair_of(part, name)
    return (inputs, targets) if device is None else (inputs.to(device), targets.to(device))


def forms_of(form: Form, children: int, starts: Sequence[Mapping[str, float]] | None) -> list[Form]:
    """A copy for each child, its knobs where they begin.

    Raises:
        MetricgradError: for starts of another number of children, or of knobs that the form has not.
    """
    if starts is not None and len(starts) != children:
        raise MetricgradError(f"starts has {len(starts)} entries for {children} children; give one for each")
    forms = [copy.deepcopy(form) for _ in range(children)]
    for own, start in zip(forms, starts or [{}] * children, strict=True):
        knobs = own.knobs()
        for name, value in start.items():
            if name not in knobs or not knobs[name].low <= value <= knobs[name].high:
                known = ", ".join(f"{k} ({v.low:g} to {v.high:g})" for k, v in knobs.items())
                raise MetricgradError(f"starts has {name}={value!r}; expected some of {known}")
            with torch.no_grad():
                knobs[name].parameter.fill_(value)
    return forms


def children_of(
    models: Sequence[nn.Module],
    forms: Sequence[Form],
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    stacked: bool | Literal["auto"],
) -> Children:
    """Stacked or looped as asked for, or the faster of the two by timed steps of throw-away copies."""
    if stacked is True:
        return Stacked(models, forms, optimizer)
    if stacked == "auto" and len(models) > 1 and _may_stack(models, forms, optimizer, inputs):
        # a loop over n children is n times a loop over one, and trying it out should not cost more than it saves
        alone = len(models) * _seconds(Looped, models[:1], forms[:1], optimizer, inputs, targets)
        together = _seconds(Stacked, models, forms, optimizer, inputs, targets)
        if together < alone:
            return Stacked(models, forms, optimizer)
    return Looped(models, forms, optimizer)


def _may_stack(models: Sequence[nn.Module], forms: Sequence[Form], optimizer: Optimizer, inputs: Tensor) -> bool:
    made = optimizer([nn.Parameter(torch.zeros(1))])
    return type(made) in ELEMENTWISE and Stacked.possible(models, forms, inputs)


def _seconds(
    kind: type[Stacked] | type[Looped],
    models: Sequence[nn.Module],
    forms: Sequence[Form],
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> float:
    """The shortest of a few steps, after one that warms up."""
    trial = kind([copy.deepcopy(m) for m in models], [copy.deepcopy(f) for f in forms], optimizer)
    batch = [part[None].expand(len(models), *part.shape) for part in (inputs, targets)]
    found: list[float] = []
    for _ in range(1 + _TIMED):
        begun = time.perf_counter()
        trial.step(
            batch[0], batch[1], CallContext(0, 0)
        ).tolist()  # a value that is read has been computed, also on a GPU
        found.append(time.perf_counter() - begun)
    return min(found[1:])
