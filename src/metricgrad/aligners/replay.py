"""Recorded calls of the loss, computed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from metricgrad.aligners.forward_mode import differs, run
from metricgrad.aligners.isolation import kept_randomness
from metricgrad.aligners.recording import LossCall
from metricgrad.errors import MetricgradError
from metricgrad.losses.form import Form


def loss_again(loss: LossCall, form: Form, phi: dict[str, Tensor], theta: Mapping[Tensor, Tensor]) -> Tensor:
    """A recorded call of the loss, times its factor, as a function of the form's and the model's parameters.

    Args:
        loss: the call; scores that are no affine function of the model's outputs are right to first order.
        form: what is called.
        phi: its parameters.
        theta: the model's, for those of the person's that are not to be read as they are.

    Raises:
        MetricgradError: where the model's forward pass gives other outputs than it did.
    """
    scores = loss.scores
    for call, head in loss.heads:
        device = call.randomness.device or torch.device("cpu")
        with kept_randomness(device, call.randomness):
            outputs = run(call.module, theta, call)
        if why := differs(outputs, call.outputs):
            raise MetricgradError(
                f"the forward pass of {type(call.module).__name__} cannot be repeated ({why}); make it depend on its "
                "inputs, parameters, buffers and torch's random state alone, or take steps=1"
            )
        shift = [new - old.detach() for new, old in zip(outputs, call.outputs, strict=True)]
        scores = scores + head.push(shift, create_graph=True)
    draw = dataclasses.replace(loss.draw, counts=False)
    with torch.autocast(scores.device.type, enabled=False):  # as the loss itself
        value = functional_call(form, phi, (scores, loss.targets), {"draw": draw, **loss.context})
    assert loss.factor is not None
    return value * loss.factor


def gradients_again(form: Form, losses: Sequence[LossCall], parameters: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """What the calls left in the gradients of parameters that have not moved since, up to rounding."""
    phi = {name: p.detach() for name, p in form.named_parameters()}
    theta = {p: p.detach().requires_grad_() for p in parameters}
    total = torch.stack([loss_again(loss, form, phi, theta) for loss in losses]).sum()
    found = torch.autograd.grad(total, list(theta.values()), allow_unused=True)
    return {p: torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)}


def is_close(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients are one, up to the rounding of computing it twice."""
    return bool((a - b).abs().max() <= 64 * torch.finfo(a.dtype).eps * b.abs().max()) if a.numel() else True
