"""How one optimiser step moves with the gradient it is given: the derivative of SGD, Adam and AdamW, entry by entry.

Each of these optimisers treats every entry of a parameter alone, so that the Jacobian of the stepped parameters with
respect to the gradient is diagonal. It is read from the optimiser's own groups and state, right after its own step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.isolation import copied
from metricgrad.aligners.lookahead.outer_products import OuterProducts, blocks, times
from metricgrad.errors import MetricgradError
from metricgrad.precision import wide

Group = dict[str, Any]
State = dict[str, Any]


@dataclass(frozen=True)
class Before:
    """What of one parameter is gone once the step is taken.

    Attributes:
        value: the parameter.
        fresh: whether its momentum buffer did not exist yet.
    """

    value: Tensor
    fresh: bool


_OF_ENTRIES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def _sgd(group: Group, state: State, before: Before) -> float:
    r"""Of :math:`\theta' = \theta - \alpha b'`, :math:`b' = \mu b + (1 - d) g`, the first time :math:`b' = g`."""
    through = 1.0
    if group["momentum"]:
        through = 1.0 if before.fresh else 1.0 - group["dampening"]
        if group["nesterov"]:
            through = 1.0 + group["momentum"] * through
    return -float(group["lr"]) * through * _sign(group)


def _adam(group: Group, state: State, value: Tensor, gradient: Tensor) -> Tensor:
    r"""Of :math:`\theta' = \theta - \alpha m / ((1 - \beta_1^t) h)`, :math:`h = \sqrt{v / (1 - \beta_2^t)} + \epsilon`.

    .. math:: \frac{\partial \theta'}{\partial g} = -\frac{\alpha}{1 - \beta_1^t} \Bigl(\frac{1 - \beta_1}{h}
        - \frac{m}{h^2}\, \frac{(1 - \beta_2)\, g}{\sqrt{v (1 - \beta_2^t)}}\Bigr)

    Where v is zero, every gradient so far was zero, and so is m: the second term is zero, which is the limit. At
    the first step the two terms cancel up to epsilon, so that one is computed in float64.
    """
    beta1, beta2 = (float(beta) for beta in group["betas"])
    step = float(state["step"])
    dtype, first, second, highest = value.dtype, state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq")
    if step == 1:
        gradient, value = wide(gradient), wide(value)
    if group.get("maximize", False):
        gradient = -gradient
    if group["weight_decay"] and not group.get("decoupled_weight_decay", False):
        gradient = gradient + group["weight_decay"] * value
    if step == 1:
        first, second = (1 - beta1) * gradient, (1 - beta2) * gradient.square()
        highest = second
    correction = 1 - beta2**step
    bend = first * gradient
    if group["amsgrad"]:
        assert highest is not None
        bend *= second >= highest
        second = highest
    # in place, as tensors are large; where v is zero so is m, and the least number below it leaves the bend at zero
    root = second.sqrt()
    denominator = root + group["eps"] * correction**0.5  # times the root of the correction, as the factor is too
    both = root.mul_(denominator).clamp_(min=torch.finfo(root.dtype).tiny)
    factor = -float(group["lr"]) * correction**0.5 / (1 - beta1**step) * _sign(group)
    bend = torch.addcdiv(bend.new_full((), factor * (1 - beta1)), bend, both, value=factor * (beta2 - 1))
    return bend.div_(denominator).to(dtype)


def _sign(group: Group) -> float:
    return -1.0 if group.get("maximize", False) else 1.0


_KNOWN: tuple[type[torch.optim.Optimizer], ...] = (torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam)


def known_kind(optimizer: torch.optim.Optimizer) -> type[torch.optim.Optimizer]:
    """Whose derivative an optimiser has; a subclass with the same ``step`` counts as its parent.

    Raises:
        MetricgradError: for another optimiser, naming those that work.
    """
    if (kind := _kind_of(type(optimizer))) is not None:
        return kind
    raise MetricgradError(
        f"LookAhead has no derivative rule for {type(optimizer).__name__}: it knows the steps of "
        f"{', '.join(f'torch.optim.{cls.__name__}' for cls in _KNOWN)}; use one of them, or another aligner"
    )


def is_uniform(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all entries of a parameter move alike with their gradients: of the known ones, SGD's do."""
    return known_kind(optimizer) is torch.optim.SGD


@functools.cache
def _kind_of(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer] | None:
    return next((cls for cls in _KNOWN if issubclass(kind, cls) and _code(kind) is _code(cls)), None)


def _code(cls: type[torch.optim.Optimizer]) -> Any:
    return inspect.unwrap(cls.step).__code__


def stepped_parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, Group]]:
    """The parameters the optimiser would step on now, with their groups."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter, group


def check_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Refuse what the rules do not hold for.

    Raises:
        MetricgradError: for sparse gradients or complex parameters.
    """
    for parameter, _ in stepped_parameters(optimizer):
        if parameter.is_complex() or (parameter.grad is not None and parameter.grad.is_sparse):
            raise MetricgradError(
                "LookAhead cannot differentiate a step on sparse gradients or complex parameters; build the embedding "
                "with sparse=False, or leave those parameters to an optimiser of their own"
            )


def before_step(optimizer: torch.optim.Optimizer, spare: dict[Tensor, Tensor]) -> dict[Tensor, Before]:
    """What :func:`through_step` needs to know from before the step.

    Args:
        optimizer: about to step.
        spare: memory of the step before, see :func:`metricgrad.aligners.isolation.copied`.

    Raises:
        MetricgradError: see :func:`check_stepped`.
    """
    check_stepped(optimizer)
    return {
        parameter: Before(
            copied(spare, parameter, parameter),
            fresh=optimizer.state.get(parameter, {}).get("momentum_buffer") is None,
        )
        for parameter, _ in stepped_parameters(optimizer)
    }


def uniform_slope(optimizer: torch.optim.Optimizer, parameter: Tensor, group: Group, before: Before) -> float | None:
    r"""The one number that the diagonal of :math:`\partial \theta' / \partial g` has; None where it has many.

    Args:
        optimizer: right after its step.
        parameter: one of its parameters.
        group: the parameter's group.
        before: what :func:`before_step` kept.
    """
    return _sgd(group, optimizer.state[parameter], before) if is_uniform(optimizer) else None


@torch.no_grad()
def through_step(
    optimizer: torch.optim.Optimizer, parameter: Tensor, group: Group, before: Before, along: Tensor | OuterProducts
) -> Tensor | OuterProducts:
    r"""A gradient in the stepped parameter, times the diagonal of :math:`\partial \theta' / \partial g`, finite.

    A block of rows at a time, so that what is computed on the way needs little memory.

    Args:
        optimizer: right after its step, its gradients still there.
        parameter: one of its parameters.
        group: the parameter's group.
        before: what :func:`before_step` kept.
        along: the gradient; of outer products the diagonal must be uniform.
    """
    state, gradient = optimizer.state[parameter], parameter.grad
    if (slope := uniform_slope(optimizer, parameter, group, before)) is not None:
        return times(along, slope)
    assert gradient is not None
    assert isinstance(along, Tensor)
    found = torch.empty_like(along)
    for rows, part in blocks(along):
        here = {name: value[rows] if name in _OF_ENTRIES else value for name, value in state.items()}
        torch.mul(part, _adam(group, here, before.value[rows], gradient[rows]), out=found[rows])
    return found


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimiser inside a wrapper such as Lightning's or Accelerate's."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrapped(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer
