"""What happened in the user's own training step: each call of the model and each call of the loss.

Hooks on the model keep its inputs, the random state and the buffers of the moment; the loss keeps scores, targets, its
form as it was, and the factor its gradient was multiplied by in each backward pass. Nothing that is computed changes.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.isolation import Autocast, Randomness, buffer_places, parameters_of
from metricgrad.aligners.lookahead.first_layers import as_first_layer, narrowing_layers
from metricgrad.aligners.lookahead.gradient_accumulation import AccumulatedGradients
from metricgrad.aligners.lookahead.head import Head, goes_past
from metricgrad.aligners.lookahead.history import SkippedStepError
from metricgrad.aligners.lookahead.recorded_calls import (
    AsCalled,
    Contribution,
    LossCall,
    ModelCall,
    outputs_of,
    tensors_of,
)
from metricgrad.aligners.step_hooks import told_of_steps
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.outside_graphs import outside_graphs
from metricgrad.value_range import looked_at


class Recorder:
    """Hooks on one model and its parameters, and what they saw since the last optimiser step.

    A LightningModule is often attached whole while its training step calls ``self.net(x)``, so the calls of direct
    children are kept too, where they are not part of a call of the model. A call of the model may also be the whole
    training step, as Lightning makes it under DDP: the loss is then called before it ends, and the calls within it are
    what the scores come from.

    Args:
        model: whose calls are kept.
        parameters: whose gradients are watched.
        optimizer: which may hold parameters outside the model as well.
        copies: whether gradients are copied from the start; otherwise once they were seen to be changed.
        averaged: whether gradients are averaged over ranks at the end of a backward pass.

    Attributes:
        by_hand: whether gradients of the present step were assigned.
        beside: parameters of the model that are trained, but are none of those watched.
    """

    def __init__(
        self, model: nn.Module, parameters: list[Tensor], optimizer: torch.optim.Optimizer | None = None, *,
        copies: bool = False, averaged: bool = False,
    ) -> None:  # fmt: skip
        self.calls: list[ModelCall] = []
        self.losses: list[LossCall] = []
        self._parameters, self._watched = parameters, frozenset(parameters)
        self._optimizer = optimizer
        self.beside: list[Tensor] = [p for p in parameters_of(model) if p.requires_grad and p not in self._watched]
        self.gradients = AccumulatedGradients(parameters, self.beside, copies=copies, averaged=averaged)
        self._paused = self.by_hand = False
        self._form: AsCalled | None = None
        self._left: list[int] | None = None
        self._told_of_others = False
        self._within: list[tuple[ModelCall | None, int]] = []
        self._is_step_a_call = True  # until a first call of the loss shows
        self._hooks: list[Any] = [*self.gradients.hooks]
        self._moves: Counter[Tensor] = Counter()
        if optimizer is not None:
            self._hooks.append(told_of_steps(self.other_step))
        for module in (model, *model.children()):
            self._hooks += [
                module.register_forward_pre_hook(self._before, with_kwargs=True),
                module.register_forward_hook(self._after, always_call=True),
            ]
        self._in_layers = {layer: layer.register_forward_hook(self._in_layer) for layer in narrowing_layers(model)}
        self._hooks += self._in_layers.values()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, which a copied or pickled model carries in its hooks, records nothing."""
        return _idle, ()

    @property
    def paused(self) -> bool:
        """Whether nothing is recorded."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = self.gradients.paused = paused

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        for loss in self.losses:
            loss.hooks, loss.hooked = {}, []  # the hooks hold the call, and a ring would hold the graph
        self.calls, self.losses, self._within, self._form = [], [], [], None
        self.gradients.clear()
        self._left = self._versions()

    def before_loss_call(self, form: Form) -> dict[Form, Any] | None:
        """Keep the form as it is, right before a call of the loss, and a place for its notes."""
        self._form = None if self.paused else AsCalled.now(form)
        return None if self.paused else {}

    def on_loss_call(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], call: CallContext, value: Tensor
    ) -> None:
        """Keep one call of the loss; its factors are filled in by backward passes."""
        if self.paused or not value.requires_grad or self._form is None:
            return
        self._is_step_a_call = bool(self._within)
        self._within = [(None, 0) for _ in self._within]
        if self.done() and self._thrown_away():
            passes = self.gradients.passes
            self.losses = [loss for loss in self.losses if not passes & loss.factors.keys()]
            self.gradients.clear()
        finished = {id(call) for loss in self.done() for call, _ in loss.heads}
        self.calls = [call for call in self.calls if call.outputs and id(call) not in finished]
        heads = [(call, Head(scores, call.outputs)) for call in self.calls]
        heads = [(call, head) for call, head in heads if head.reaches]
        if not heads:
            raise MetricgradError(
                "the scores do not come from a call of the model this loss is attached to, so there is nothing to look "
                "ahead through; attach the module that is called, and pass its output (or a part of it) to the loss"
            )
        if any(call.computed for call, _ in heads):
            raise MetricgradError(
                "an input of the attached model was itself computed from parameters, so that part of the gradient "
                "would be missed; attach the whole model, and call it as one; or detach the input: model(x.detach())"
            )
        kept = LossCall(scores.detach(), targets, context, call, self._form, value.detach(), heads)
        read = [scores, targets, *(part for part in context.values() if part is not None)]
        kept.written = [(tensor, tensor._version) for tensor in read if isinstance(tensor, Tensor)]
        held = () if self._optimizer is None else self._optimizer.param_groups
        stepped = self._watched.union(*(group["params"] for group in held))
        kept.past = goes_past(scores, [output for call, _ in heads for output in call.outputs], stepped)
        kept.looks = looked_at()
        self.losses.append(kept)
        value.register_hook(functools.partial(self._back, kept))
        kept.hooks = value._backward_hooks or {}
        kept.hooked = [scores, *(output for call, _ in heads for output in call.outputs)]

    @outside_graphs
    def _back(self, kept: LossCall, gradient: Tensor) -> None:
        number = self.gradients.number()
        before = kept.factors.get(number)
        kept.factors[number] = gradient if before is None else before + gradient
        kept.again = kept.again or torch.is_grad_enabled()

    def done(self) -> list[LossCall]:
        """The calls of the loss whose gradient is in the parameters' gradients."""
        passes = self.gradients.passes
        return [loss for loss in self.losses if passes & loss.factors.keys()]

    def contributions(self) -> list[Contribution]:
        """What each of them put there."""
        found: list[Contribution] = []
        reached, passes = {**self.gradients.reached, **self.gradients.beside}, self.gradients.passes
        for loss in self.done():
            parts: dict[frozenset[Tensor], Tensor] = {}
            for number, factor in loss.factors.items():
                if number in passes:
                    into = frozenset(p for p, numbers in reached.items() if number in numbers)
                    parts[into] = parts[into] + factor if into in parts else factor
            found += [
                Contribution(loss, factor, None if len(into) == len(reached) else into)
                for into, factor in parts.items()
            ]
        return found

    def claim(self) -> None:
        """Find gradients that were assigned by hand where ``autograd.grad`` ran through the loss: they are its."""
        ours = set().union(*(loss.factors for loss in self.losses)) - self.gradients.passes
        by_hand = [p for p in self._parameters if p.grad is not None and p not in self.gradients.snapshots]
        self.by_hand = bool(ours and by_hand)
        if ours:
            self.gradients.reached |= {p: set(ours) for p in by_hand}
            self.gradients.beside |= {p: set(ours) for p in self.beside if p.grad is not None}

    def check(self) -> None:
        """Refuse what cannot be computed again.

        Raises:
            SkippedStepError: where parameters or gradients were written to in the middle of the step.

        Warns:
            UserWarning: the first time that parameters which the optimiser does not hold were moved after its step.
        """
        calls = [call for loss in self.done() for call, _ in loss.heads]
        now = self._versions()
        moved = {p for call in calls for p in self._moved(call.versions, now)}
        if not moved.isdisjoint(self._watched):
            raise SkippedStepError(
                "moved",
                "the model's parameters were written to between its forward pass and the step (as SAM does, or another "
                "optimiser), and the gradients are those of other parameters; LookAhead knows plain steps only",
            )
        if not moved.isdisjoint(self.gradients.beside):
            raise SkippedStepError(
                "moved beside",
                "parameters of the model that the attached optimiser does not hold were moved between the forward pass "
                "and its step, by another optimiser for one, and the forward pass cannot be repeated; step the "
                "attached optimiser first, or give one optimiser all parameters, in groups",
            )
        if not self._told_of_others:
            self._tell_of_others(calls)
        if any(loss.past for loss in self.done()):
            raise SkippedStepError(
                "past",
                "the scores were computed from parameters of the optimiser outside the model's call as well; do that "
                "inside it: attach a module whose forward does all of it",
            )
        if len(done := self.done()) > 1 and any(loss.form.carries for loss in done):
            raise SkippedStepError(
                "carried",
                "the loss was called more than once before the step, and it keeps the mean size of its gradients, "
                "which depends on its parameters: call it once, or make it with Anchored(..., momentum=0)",
            )
        if self.gradients.touched:
            raise SkippedStepError(
                "touched", "gradients were changed between two backward passes; change them once, right before the step"
            )

    def _tell_of_others(self, calls: list[ModelCall]) -> None:
        left = self._left
        since = set() if left is None else {p for call in calls for p in self._moved(left, call.versions)}
        if not since.isdisjoint(self.gradients.beside):
            self._told_of_others = True
            warnings.warn(
                "LookAhead looks through the attached optimiser's step alone: parameters of the model that it does not "
                "hold were moved after it, by another optimiser for one, and what this loss does to them is left out; "
                "give one optimiser all parameters, in groups, to look through the whole step",
                stacklevel=2,
            )

    def doubt(self) -> str | None:
        """Why the gradients may hold more than what can be computed again, or None."""
        done = self.done()
        if any(loss.again for loss in done):
            return "the loss was differentiated with create_graph=True, whose result may be in the gradients as well"
        if any(tensor._version != version for loss in done for tensor, version in loss.written):
            return "scores, targets or context of the loss were written to after it was called; pass copies"
        if any(len(loss.hooks) > 1 or any(tensor._backward_hooks for tensor in loss.hooked) for loss in done):
            return "there are hooks on the scores, the model's outputs or the loss's value, which may change gradients"
        return None

    @outside_graphs
    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.paused:
            return
        around = len(self._kept())
        if around > int(self._is_step_a_call) or not torch.is_grad_enabled():
            self._within.append((None, 0))
            return
        computed = any(tensor.grad_fn is not None for tensor in tensors_of((args, kwargs)))
        device = self._parameters[0].device
        now = Randomness.now(device), Autocast.now(device)
        call = ModelCall(module, computed, args, kwargs, *now, buffer_places(module), self._versions())
        self._within.append((call, len(self.calls)))

    @outside_graphs
    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.paused or not self._within:
            return
        call, begin = self._within.pop()
        if call is not None:
            call.outputs = outputs_of(output)
            self.calls[begin:] = [call]  # in the place of its parts

    def _in_layer(self, layer: nn.Linear, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        calls = [] if self.paused else self._kept()
        if not calls or any(getattr(hook, "__self__", None) is not self for hook in layer._forward_hooks.values()):
            return  # a user's hook may have put something else in the place of the output
        if (kept := as_first_layer(layer, args, output)) is not None:
            for call in calls:
                call.first_layers.append(kept)
        elif (hook := self._in_layers.pop(layer, None)) is not None:
            hook.remove()  # it is no first layer, and torch has faster ways for modules without hooks

    def _kept(self) -> list[ModelCall]:
        """The calls that are under way."""
        return [call for call, _ in self._within if call is not None]

    def other_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step of another optimiser than the attached: a fused one writes what torch does not count."""
        if optimizer is not self._optimizer:
            held = {p for group in optimizer.param_groups for p in group["params"] if p.grad is not None}
            self._moves.update(held.intersection((*self._parameters, *self.beside)))

    def _versions(self) -> list[int]:
        return [p._version + self._moves[p] for p in (*self._parameters, *self.beside)]

    def _moved(self, then: list[int], now: list[int]) -> list[Tensor]:
        parameters = (*self._parameters, *self.beside)
        return [p for p, a, b in zip(parameters, then, now, strict=True) if a != b]

    def _thrown_away(self) -> bool:
        """Whether the gradients of earlier calls were set to zero without a step."""
        return all(p.grad is None or not bool(p.grad.any()) for p in self._parameters)


def _idle() -> Recorder:
    recorder = Recorder(nn.Module(), [])
    recorder.paused = True
    return recorder
