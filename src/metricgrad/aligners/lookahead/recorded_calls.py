"""Recorded calls of a model and of a loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.isolation import Autocast, Place, Randomness, buffer_places, parameters_of
from metricgrad.aligners.lookahead.first_layers import FirstLayer
from metricgrad.aligners.lookahead.head import Head
from metricgrad.losses.base import CallContext, Form
from metricgrad.value_range import Looks


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
        versions: how often each trained parameter had been written to.
        outputs: the floating-point tensors of the output, in order.
        first_layers: calls of linear layers inside it whose outputs are kept.
    """

    module: nn.Module
    computed: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    randomness: Randomness
    autocast: Autocast
    buffers: list[Place]
    versions: list[int]
    outputs: list[Tensor] = field(default_factory=list)
    first_layers: list[FirstLayer] = field(default_factory=list)


@dataclass(frozen=True)
class AsCalled:
    """A form as it was right before a call.

    Attributes:
        parameters: for each of its parameters, the value.
        buffers: where they stand, with their values.
        carries: whether these depend on the parameters of the calls before.
    """

    parameters: Mapping[Tensor, Tensor]
    buffers: list[Place]
    carries: bool

    @classmethod
    def now(cls, form: Form) -> AsCalled:
        """As it is."""
        with torch.no_grad():
            return cls({p: p.clone() for p in parameters_of(form)}, buffer_places(form), form.carries)


@dataclass
class LossCall:
    """One call of the loss that counted.

    Attributes:
        scores: as the loss got them, detached.
        targets: likewise.
        context: likewise.
        call: what was random in it.
        form: as it was.
        value: of the loss, detached.
        heads: for each model call the scores come from, the call and how they come from its outputs.
        factors: for each backward pass, by its number, what the loss's gradient was multiplied by on the way back.
        written: tensors it read, each beside how often it had been written to.
        hooks: on its value, ours first.
        hooked: scores and outputs, which may have hooks too.
        again: whether a pass was itself to be differentiated.
        past: whether the scores come from parameters of the optimiser past the model calls as well.
        share: a constant that its value was multiplied by, as far as that was said.
        looks: what its checks found of its tensors.
    """

    scores: Tensor
    targets: Tensor
    context: Mapping[str, Tensor | None]
    call: CallContext
    form: AsCalled
    value: Tensor
    heads: list[tuple[ModelCall, Head]]
    factors: dict[int, Tensor] = field(default_factory=dict)
    written: list[tuple[Tensor, int]] = field(default_factory=list)
    hooks: Mapping[int, Any] = field(default_factory=dict)
    hooked: list[Tensor] = field(default_factory=list)
    again: bool = False
    past: bool = False
    share: float = 1.0
    looks: Looks | None = None


@dataclass(frozen=True)
class Contribution:
    """What one call of the loss put into the gradients of some parameters.

    Attributes:
        loss: the call.
        factor: 0-d, what its gradient was multiplied by.
        parameters: in whose gradients it is; None for all that the loss is in.
    """

    loss: LossCall
    factor: Tensor
    parameters: frozenset[Tensor] | None

    @property
    def beside_share(self) -> Tensor:
        """What of the factor is not the share that was said, and may depend on the loss's value."""
        return self.factor / self.loss.share


@dataclass(frozen=True)
class ScoreTangent:
    """A contribution, and where a direction in the parameters takes its scores.

    Attributes:
        of: the contribution.
        tangent: in the shape of the scores.
        power: see :func:`metricgrad.aligners.lookahead.plain_numbers.power_of`.
    """

    of: Contribution
    tangent: Tensor
    power: float


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
