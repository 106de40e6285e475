"""The last few optimiser steps of an attached training, written again as one function, and double backward through it.

One step ahead is blind to what a step does later: through momentum, and through where it leads. Here the steps that the
user's own loop has just taken are repeated from what was recorded of them, each as a differentiable function of the
one before, so that the objective after the last knows them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metricgrad.aligners.base import TrainingContext
from metricgrad.aligners.isolation import parameter_places, standing
from metricgrad.aligners.lookahead.history import LookAheadResult
from metricgrad.aligners.lookahead.optimizer_jacobians import Group, State, check_stepped, stepped_parameters
from metricgrad.aligners.lookahead.plain_numbers import Constants, powers_of
from metricgrad.aligners.lookahead.recorded_calls import Contribution
from metricgrad.aligners.lookahead.recorder import Recorder
from metricgrad.aligners.lookahead.replay import loss_again
from metricgrad.aligners.lookahead.unrolled import stepped
from metricgrad.aligners.lookahead.validation_gradient import Objective
from metricgrad.aligners.norms import dot
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form

Theta = dict[Tensor, Tensor]


@dataclass(frozen=True)
class _Step:
    """One optimiser step: the loss calls behind its gradient, and the settings of each parameter it moved."""

    losses: list[Contribution]
    groups: dict[Tensor, Group]


class Window:
    """Some optimiser steps in a row, and what the first of them started from.

    Args:
        length: how many.

    Cost: the graphs of all steps are kept for the backward pass; time and memory grow with their number.
    """

    def __init__(self, length: int) -> None:
        self.length, self._uses = length, Constants()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._steps: list[_Step] = []
        self._values: Theta = {}
        self._states: dict[Tensor, State] = {}

    @property
    def full(self) -> bool:
        """Whether all steps are there."""
        return len(self._steps) == self.length

    def before(self, training: TrainingContext, recorder: Recorder) -> None:
        """Keep a step that is about to be taken; one in which the loss has no part ends the window.

        Raises:
            MetricgradError: where gradients were changed since the backward pass, or scores are no affine function of
                the model's outputs.
        """
        optimizer = training.optimizer
        recorder.claim()
        losses = recorder.contributions()
        if not losses:
            self.clear()
            return
        check_stepped(optimizer)
        groups = {p: dict(group) for p, group in stepped_parameters(optimizer)}
        scaled = getattr(optimizer, "grad_scale", None) is not None
        gradients = recorder.gradients
        changed = recorder.by_hand or gradients.hooked or not gradients.all_unchanged()
        if scaled or changed:
            raise MetricgradError(
                "the gradients were changed between backward and step (clipped or scaled), which LookAhead can go "
                "through one step at a time only; drop that change, or take steps=1"
            )
        recorder.check()
        powers = powers_of([(part.beside_share, part.loss.value) for part in losses], self._uses)
        if (why := recorder.doubt()) or any(powers) or any(part.parameters for part in losses):
            why = why or "the loss's value was used in another way than in a sum with constant weights"
            raise MetricgradError(f"LookAhead over several steps cannot go through this one: {why}; or take steps=1")
        if any(not head.is_affine(call.outputs) for part in losses for call, head in part.loss.heads):
            raise MetricgradError(
                "LookAhead over several steps needs scores that are the model's output up to slices, reshapes and "
                "scales; move the rest into the model, or take steps=1"
            )
        if not self._steps:
            own = [p for p in training.model.parameters() if p.requires_grad]
            self._values = {p: p.detach().clone() for p in own}
            self._states = {p: _copied(optimizer.state.get(p, {})) for p in own}
        self._steps.append(_Step(losses, {p: group for p, group in groups.items() if p in self._values}))

    def after(self, training: TrainingContext, form: Form, objective: Objective, batch: Any) -> LookAheadResult:
        """The gradient through all steps; the window is empty afterwards.

        Args:
            training: what it is attached to; its model is on borrowed buffers, recording is paused.
            form: one gradient is returned for each of its parameters.
            objective: of scores and targets.
            batch: the validation batch.
        """
        phi: Theta = {p: p.detach().clone().requires_grad_() for p in form.parameters()}
        last = self._steps[-1]
        seen = [p.grad for p in last.groups if p.grad is not None]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            theta: Theta = {p: value.clone().requires_grad_() for p, value in self._values.items()}
            start, states = theta, self._states
            for step in self._steps:
                theta, states = self._taken(step, form, phi, theta, states)
            with standing(parameter_places(training.model, theta)):
                scores, targets = training.scored(training.model, batch)
            value = objective(scores, targets)
            found = torch.autograd.grad(value, [*phi.values(), *theta.values()], allow_unused=True)
        slopes = zip(theta, found[len(phi) :], strict=True)
        pairs = [(start[p].detach() - theta[p].detach(), v) for p, v in slopes if v is not None]
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(phi.values(), found, strict=False)]
        products = [(dot(way, v), dot(v, v)) for way, v in pairs]
        result = LookAheadResult.read(gradients, value, seen, products, self.length)
        self.clear()
        return result

    def _taken(
        self, step: _Step, form: Form, phi: Theta, theta: Theta, states: dict[Tensor, State]
    ) -> tuple[Theta, dict[Tensor, State]]:
        """The parameters and the optimiser's state after one step."""
        total = torch.stack([loss_again(loss, form, phi, theta) for loss in step.losses]).sum()
        found = torch.autograd.grad(total, list(theta.values()), create_graph=True, allow_unused=True)
        after, then = dict(theta), dict(states)
        for (p, old), gradient in zip(theta.items(), found, strict=True):
            if p in step.groups:
                slope = torch.zeros_like(old) if gradient is None else gradient
                after[p], then[p] = stepped(step.groups[p], states[p], old, slope)
        return after, then


def _copied(state: State) -> State:
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()}
