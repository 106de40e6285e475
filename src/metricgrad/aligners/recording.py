"""What LookAhead remembers of the person's own training step: each call of the model and each call of the loss.

Hooks on the model keep its inputs, the random state and the buffers of the moment; the loss keeps scores, targets and
the factor its gradient was multiplied by. Nothing of the person's computation changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.clipping import unchanged
from metricgrad.aligners.isolation import Autocast, Place, Randomness, buffer_places, copied
from metricgrad.errors import MetricgradError
from metricgrad.losses.form import Draw


@dataclass
class ModelCall:
    """One call of the model, or of one of its children, with gradients on.

    Attributes:
        module: what was called.
        computed: whether an input was itself computed from parameters.
        args: positional arguments.
        kwargs: keyword arguments.
        randomness: the random state right before.
        autocast: its state.
        buffers: right before.
        outputs: the floating-point tensors of the output, in order.
    """

    module: nn.Module
    computed: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    randomness: Randomness
    autocast: Autocast
    buffers: list[Place]
    outputs: list[Tensor] = field(default_factory=list)


@dataclass
class LossCall:
    """One call of the loss that counted.

    Attributes:
        scores: as the loss got them, detached.
        targets: likewise.
        context: likewise.
        draw: what was random in it.
        heads: for each model call the scores come from, the call and how they come from its outputs.
        factor: what the loss's gradient was multiplied by on the way back; zero before its backward pass.
    """

    scores: Tensor
    targets: Tensor
    context: Mapping[str, Tensor | None]
    draw: Draw
    heads: list[tuple[ModelCall, Head]]
    factor: Tensor | None = None


class Head:
    """What a person does between the model's outputs and the scores: a slice, a reshape, a cast, or nothing.

    It is read off the autograd graph, before the person's backward pass frees it: the transposed Jacobian is taken at
    a symbolic vector, and is linear in it.
    """

    def __init__(self, scores: Tensor, outputs: list[Tensor]) -> None:
        self._same = next((i for i, output in enumerate(outputs) if output is scores), None)
        self._vector = self._transposed = None
        self.reaches = self._same is not None
        if self._same is None:
            self._vector = torch.zeros_like(scores, requires_grad=True)
            needing = [output for output in outputs if output.requires_grad]
            found = torch.autograd.grad(
                scores, needing, self._vector, create_graph=True, retain_graph=True, allow_unused=True
            )
            by_id = dict(zip(map(id, needing), found, strict=True))
            self._transposed = [by_id.get(id(output)) for output in outputs]
            self.reaches = any(part is not None for part in self._transposed)

    def push(self, tangents: list[Tensor], *, create_graph: bool = False) -> Tensor:
        """The Jacobian times one tangent for each output."""
        if self._same is not None:
            return tangents[self._same]
        assert self._transposed is not None
        assert self._vector is not None
        pairs = [(p, t) for p, t in zip(self._transposed, tangents, strict=True) if p is not None and p.requires_grad]
        if not pairs:
            return torch.zeros_like(self._vector)
        parts, along = zip(*pairs, strict=True)
        (pushed,) = torch.autograd.grad(parts, self._vector, along, retain_graph=True, create_graph=create_graph)
        return pushed

    def is_affine(self, outputs: list[Tensor]) -> bool:
        """Whether the Jacobian is the same everywhere."""
        if self._transposed is None or self._vector is None:
            return True
        probe = sum(((p * p.detach().cos()).sum() for p in self._transposed if p is not None), torch.zeros(()))
        if not isinstance(probe, Tensor) or not probe.requires_grad:
            return True
        needing = [output for output in outputs if output.requires_grad]
        try:
            return all(g is None for g in torch.autograd.grad(probe, needing, retain_graph=True, allow_unused=True))
        except RuntimeError:  # the way to the outputs leads through values that the person's backward pass has freed
            return False


@dataclass(frozen=True)
class Left:
    """A gradient as a backward pass left it.

    Attributes:
        gradient: the tensor, no copy of it.
        version: how often it had been written to.
        squared: 0-d, its squared norm, which tells of writes through ``.data``; None where it is sparse.
    """

    gradient: Tensor
    version: int
    squared: Tensor | None

    @classmethod
    def now(cls, gradient: Tensor) -> Left:
        """As it is."""
        return cls(gradient, gradient._version, None if gradient.is_sparse else _squared(gradient))

    def is_still(self, gradient: Tensor | None) -> bool:
        """Whether it is the same tensor, not written to since."""
        if gradient is None or gradient is not self.gradient or gradient._version != self.version:
            return False
        if self.squared is None:
            return True
        before, now = float(self.squared), float(_squared(gradient))
        return before == now or math.isclose(before, now, rel_tol=1e-4) or (math.isnan(before) and math.isnan(now))


def _squared(gradient: Tensor) -> Tensor:
    flat = gradient.detach().reshape(-1)
    return torch.dot(flat, flat)


class Recorder:
    """Hooks on one model and its parameters, and what they saw since the last optimiser step.

    Gradients are copied only once they were seen to be changed between backward and step (``copies``): a copy takes as
    much memory as the model.

    A LightningModule is often attached whole while its training step calls ``self.net(x)``, so the calls of direct
    children are kept too, where they are not part of a call of the model.

    Args:
        model: whose calls are kept.
        parameters: whose gradients are watched.
        copies: whether they are copied from the start.
    """

    def __init__(self, model: nn.Module, parameters: list[Tensor], *, copies: bool = False) -> None:
        self.calls: list[ModelCall] = []
        self.losses: list[LossCall] = []
        self.left: dict[Tensor, Left] = {}
        self.raw: dict[Tensor, Tensor] = {}
        self.copies = copies
        self.paused = False
        self._spare: dict[Tensor, Tensor] = {}
        self._parameters = parameters
        self._within: list[ModelCall | None] = []
        self._hooks: list[Any] = [p.register_post_accumulate_grad_hook(self._accumulated) for p in parameters]
        for module in (model, *model.children()):
            self._hooks += [
                module.register_forward_pre_hook(self._before, with_kwargs=True),
                module.register_forward_hook(self._after, always_call=True),
            ]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, which a copied or pickled model carries in its hooks, records nothing."""
        return _idle, ()

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls, self.losses, self.left, self.raw, self._within = [], [], {}, {}, []

    def saw(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], draw: Draw, value: Tensor
    ) -> None:
        """Keep one call of the loss; its factor is filled in by the backward pass."""
        if self.paused or not value.requires_grad:
            return
        if self.done() and self._thrown_away():
            self.losses = [loss for loss in self.losses if loss.factor is None]
            self.left, self.raw = {}, {}
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
        kept = LossCall(scores.detach(), targets, context, draw, heads)
        self.losses.append(kept)

        def back(gradient: Tensor) -> None:
            kept.factor = gradient if kept.factor is None else kept.factor + gradient

        value.register_hook(back)

    def done(self) -> list[LossCall]:
        """The calls of the loss whose gradient is in the parameters' gradients."""
        return [loss for loss in self.losses if loss.factor is not None]

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.paused:
            return
        if self._within or not torch.is_grad_enabled():
            self._within.append(None)
            return
        computed = any(tensor.grad_fn is not None for tensor in tensors_of((args, kwargs)))
        device = self._parameters[0].device
        now = Randomness.now(device), Autocast.now(device)
        self._within.append(ModelCall(module, computed, args, kwargs, *now, buffer_places(module)))

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.paused or not self._within:
            return
        call = self._within.pop()
        if call is not None:
            call.outputs = outputs_of(output)
            self.calls.append(call)

    def _accumulated(self, parameter: Tensor) -> None:
        if self.paused or parameter.grad is None:
            return
        self.left[parameter] = Left.now(parameter.grad)
        if self.copies:
            self.raw[parameter] = copied(self._spare, parameter, parameter.grad)

    def as_left(self, parameter: Tensor) -> bool:
        """Whether the parameter's gradient is what the backward passes left."""
        gradient = parameter.grad
        if parameter in self.raw:
            return gradient is not None and unchanged(self.raw[parameter], gradient)
        return self.left[parameter].is_still(gradient)

    def _thrown_away(self) -> bool:
        """Whether the gradients of earlier calls were set to zero without a step."""
        return all(p.grad is None or not bool(p.grad.any()) for p in self._parameters)


def _idle() -> Recorder:
    recorder = Recorder(nn.Module(), [])
    recorder.paused = True
    return recorder


def outputs_of(output: Any) -> list[Tensor]:
    """The floating-point tensors of a model's output, in order."""
    return [tensor for tensor in tensors_of(output) if tensor.is_floating_point()]


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists, mappings and dataclasses."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_of(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from tensors_of(value)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            yield from tensors_of(getattr(tree, name))
