"""Several optimiser steps written as one differentiable function, and double backward through all of them.

The reference for :mod:`metricgrad.aligners.lookahead.hypergradient`, and the way of offline starts of more than one
inner step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metricgrad.aligners.base import Forward
from metricgrad.aligners.isolation import borrowed, parameter_places, standing
from metricgrad.aligners.lookahead.optimizer_jacobians import Group, State, known_kind
from metricgrad.losses.base import CallContext, Form


def unrolled(
    form: Form,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Any],
    valid_batch: Any,
    objective: Callable[[Tensor, Tensor], Tensor],
    forward: Forward,
    call: CallContext,
) -> tuple[list[Tensor], float]:
    """The gradient of the objective after one step on each batch in turn, from the present state.

    Args:
        form: the loss form, the same in every step.
        model: unchanged, its buffers too.
        optimizer: SGD, Adam or AdamW; unchanged.
        batches: training batches.
        valid_batch: what the objective is measured on.
        objective: of scores and targets.
        forward: maps (model, batch) to (scores, targets).
        call: of the form's first call; each further one counts one step up.

    Returns:
        One tensor for each of the form's parameters, and the objective's value.

    Cost: the graphs of all steps are kept; time and memory grow with their number.
    """
    known_kind(optimizer)
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    live = [p for p in model.parameters() if p in groups and p.requires_grad]
    theta: dict[Tensor, Tensor] = {p: p.detach().clone().requires_grad_() for p in live}
    states: dict[Tensor, State] = {p: dict(optimizer.state.get(p, {})) for p in live}
    phi = {n: p.detach().clone().requires_grad_() for n, p in form.named_parameters()}

    def passed(batch: Any) -> tuple[Tensor, Tensor]:
        with standing(parameter_places(model, theta)):
            return forward(model, batch)

    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), borrowed(model):
        for number, batch in enumerate(batches):
            scores, targets = passed(batch)
            here = dataclasses.replace(call, step=call.step + number, counts=False)
            value = functional_call(form, phi, (scores, targets), {"call": here})
            found = torch.autograd.grad(value, list(theta.values()), create_graph=True, allow_unused=True)
            for (p, old), gradient in zip(list(theta.items()), found, strict=True):
                if gradient is not None:
                    theta[p], states[p] = stepped(groups[p], states[p], old, gradient)
        scores, targets = passed(valid_batch)
        reached = objective(scores, targets)
        slopes = torch.autograd.grad(reached, list(phi.values()), allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip(phi.values(), slopes, strict=True)]
    return filled, float(reached.detach())


def stepped(group: Group, state: State, value: Tensor, gradient: Tensor) -> tuple[Tensor, State]:
    """One step of one parameter, differentiable; the new state."""
    rate, decay = float(group["lr"]), group["weight_decay"]
    gradient = -gradient if group.get("maximize", False) else gradient
    if decay and group.get("decoupled_weight_decay", False):
        value = value * (1 - rate * decay)
    elif decay:
        gradient = gradient + decay * value
    if "betas" in group:
        return _adam_stepped(group, state, value, gradient, rate)
    if not group["momentum"]:
        return value - rate * gradient, state
    buffer = state.get("momentum_buffer")
    buffer = gradient if buffer is None else group["momentum"] * buffer + (1 - group["dampening"]) * gradient
    moved = gradient + group["momentum"] * buffer if group["nesterov"] else buffer
    return value - rate * moved, {"momentum_buffer": buffer}


def _adam_stepped(group: Group, state: State, value: Tensor, gradient: Tensor, rate: float) -> tuple[Tensor, State]:
    beta1, beta2 = (float(beta) for beta in group["betas"])
    step = float(state.get("step", 0)) + 1
    zero = torch.zeros_like(value)
    first = beta1 * state.get("exp_avg", zero) + (1 - beta1) * gradient
    second = beta2 * state.get("exp_avg_sq", zero) + (1 - beta2) * gradient.square()
    highest = torch.maximum(state.get("max_exp_avg_sq", zero), second) if group["amsgrad"] else second
    positive = highest > 0  # the root's slope at zero is infinite, and times zero it would be NaN
    root = torch.where(positive, torch.where(positive, highest, torch.ones_like(highest)).sqrt(), zero)
    denominator = root / (1 - beta2**step) ** 0.5 + group["eps"]
    after = {"step": step, "exp_avg": first, "exp_avg_sq": second, "max_exp_avg_sq": highest}
    return value - rate / (1 - beta1**step) * first / denominator, after
