"""Recorded calls of the loss, computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from metricgrad.aligners.isolation import again, kept_randomness, parameter_places, standing
from metricgrad.aligners.lookahead.forward_mode import differs, run
from metricgrad.aligners.lookahead.history import NOT_REPEATED, SkippedStepError
from metricgrad.aligners.lookahead.recorded_calls import Contribution, LossCall
from metricgrad.distributed import Ranks
from metricgrad.losses.base import Form
from metricgrad.value_range import looked_at_once


@contextlib.contextmanager
def as_called(form: Form, loss: LossCall, phi: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """The form is inside as it was right before a call, with these parameters, and computes as the user called it."""
    uncast = torch.autocast(loss.scores.device.type, enabled=False)
    with uncast, looked_at_once(loss.looks), standing([*parameter_places(form, phi), *again(loss.form.buffers)]):
        yield


def loss_again(
    contribution: Contribution, form: Form, phi: Mapping[Tensor, Tensor], theta: Mapping[Tensor, Tensor]
) -> Tensor:
    """A recorded call of the loss, times its factor, as a function of the form's and the model's parameters.

    Args:
        contribution: the call; scores that are no affine function of the model's outputs are right to first order.
        form: what is called.
        phi: its parameters, as they were or with gradients to them.
        theta: the model's, for those of the user's that are not to be read as they are.

    Raises:
        SkippedStepError: where the model's forward pass gives other outputs than it did.
    """
    loss = contribution.loss
    scores = loss.scores
    for call, head in loss.heads:
        device = call.randomness.device or torch.device("cpu")
        with kept_randomness(device, call.randomness):
            outputs = run(call.module, theta, call)
        if why := differs(outputs, call.outputs):
            raise SkippedStepError(
                NOT_REPEATED,
                f"the forward pass of {type(call.module).__name__} cannot be repeated ({why}); do not move its "
                "parameters before the step, as SAM or another optimiser does, and make it depend on its inputs, "
                "parameters, buffers and torch's random state alone",
            )
        shift = [new - old.detach() for new, old in zip(outputs, call.outputs, strict=True)]
        scores = scores + head.jvp(shift, create_graph=True)
    # the value is the one of the moment, the gradient goes to phi
    then = {p: was + (phi[p] - phi[p].detach()) for p, was in loss.form.parameters.items()}
    with as_called(form, loss, then):
        value = form(scores, loss.targets, call=loss.call, **loss.context)
    return value * contribution.factor


def gradients_again(
    form: Form, contributions: Sequence[Contribution], values: Mapping[Tensor, Tensor], ranks: Ranks
) -> dict[Tensor, Tensor]:
    """What the calls left in the gradients of parameters that had these values, averaged, up to rounding."""
    theta = {p: value.detach().requires_grad_() for p, value in values.items()}
    found = {p: torch.zeros_like(p) for p in theta}
    for part in contributions:
        into = [p for p in theta if part.parameters is None or p in part.parameters]
        value = loss_again(part, form, part.loss.form.parameters, theta)
        if not value.requires_grad:
            continue
        gradients = torch.autograd.grad(value, [theta[p] for p in into], allow_unused=True)
        for p, gradient in zip(into, gradients, strict=True):
            if gradient is not None:
                found[p] = found[p] + gradient
    return dict(zip(found, ranks.mean(found.values()), strict=True))


def is_close(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients are one, up to the rounding of computing it twice."""
    return bool((a - b).abs().max() <= 64 * torch.finfo(a.dtype).eps * b.abs().max()) if a.numel() else True
