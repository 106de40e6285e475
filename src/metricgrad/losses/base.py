"""What a loss form is: the left half of the grid, a module of (scores, targets) that an aligner can move."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.abstract import Abstract
from metricgrad.losses.calling import ScoreLoss
from metricgrad.metrics.layouts.class_targets import ClassTargets

STEPS_TO_ANCHOR = 500
"""Calls after which a ramp over a training of unknown length has ended."""


@dataclass(frozen=True)
class CallContext:
    """The random choices of one call: everything random in a form follows from the seed and the step.

    Attributes:
        seed: of the loss.
        step: how many training steps the loss has counted.
        counts: whether this call counts as a step: in training mode, with gradients on.
        progress: the share of the training that is done, 0 to 1, where its length is known.
        notes: where a form may leave, under itself, what its derivative along a direction (which is then asked for the
            same scores, targets and parameters) need not compute again; None where nobody will ask.
    """

    seed: int
    step: int
    counts: bool = True
    progress: float | None = None
    notes: dict[Form, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def share(self) -> float:
        """The share of training done; of a training of unknown length, that of its first 500 steps."""
        return min(1.0, self.step / STEPS_TO_ANCHOR) if self.progress is None else self.progress

    def generator(self) -> torch.Generator:
        """A CPU generator that depends on nothing but the seed and the step."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.step) % (2**63 - 1))


#: Its name in version 0.1.
Draw = CallContext


@dataclass(frozen=True)
class Knob:
    """One bounded scalar of a form that a policy may turn.

    Attributes:
        parameter: the 0-d tensor that is turned in place; a view where it is one entry of a larger parameter.
        low: its smallest value.
        high: its largest value.
        classes: the pair of classes it stands between, where it does; a class with itself on a diagonal.
    """

    parameter: Tensor
    low: float
    high: float
    classes: tuple[int, int] | None = None

    @property
    def unit(self) -> float:
        """Half its range: what a move of 1 means."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Ramp:
    """A weight that goes from one value to another while training runs, and then stays.

    Attributes:
        start: at the beginning.
        end: from ``by`` on.
        by: a share of the training in (0, 1].
    """

    start: float
    end: float
    by: float = 1.0

    def at(self, share: float) -> float:
        """The weight when this share of the training is done."""
        return self.start + (self.end - self.start) * min(1.0, share / self.by)


@dataclass(frozen=True)
class Told:
    """What a loss is said to be, of numbers that the host has to read first; all of a step are read at once.

    Attributes:
        numbers: 0-d, on one device.
        say: from these to the value; warns of what they show.
    """

    numbers: tuple[Tensor, ...]
    say: Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Parts:
    """The losses that a form is the sum of, for one batch; see :class:`metricgrad.losses.composite.anchored.Anchored`.

    Attributes:
        again: the 0-d losses as functions of scores; whatever else the call read or changed stays as it was then, such
            as where a metric's steps were cut or by which slope they were replaced.
        losses: the same of the scores of the call, with graph, where they were computed so.
        gradients: their gradients in the scores of the call, where they are known in closed form instead.
        shown: 0-d, detached: what the loss is said to be, or how that follows; None for the base's value.
        base_weight: what the base should weigh beside them; None where the form does not say.
        weight: what they should weigh; likewise.
        matched: whether they are to be brought to the base's size, or are as large as they should be.
        cross_entropy: the gradient of cross-entropy of the same rows and weights, where it comes along with them.
    """

    again: Callable[[Tensor], tuple[Tensor, ...]]
    losses: tuple[Tensor, ...] | None = None
    gradients: tuple[Tensor, ...] | None = None
    shown: Tensor | Told | None = None
    base_weight: Ramp | None = None
    weight: Ramp | None = None
    matched: bool = True
    cross_entropy: Tensor | None = None


def ordinary(tensor: Any) -> Any:
    """The same outside inference mode, whose own tensors autograd takes no part in; what is no tensor stays."""
    return tensor.clone() if isinstance(tensor, Tensor) and tensor.is_inference() else tensor


class Form(ScoreLoss, Abstract):
    """Abstract: a loss of raw scores.

    ``parameters()`` are what RankCorrelation and LookAhead move; they do not require gradients until an aligner asks
    for them. ``knobs()`` are what Policy and RandomWalk turn.
    """

    #: Written into a saved loss; :data:`metricgrad.grid.FORMS` maps it back to the class.
    kind: ClassVar[str]

    @abc.abstractmethod
    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d loss, minimised."""

    @classmethod
    def batched_forward(cls, forms: Sequence[Form], scores: Tensor, targets: Tensor, *, call: CallContext) -> Tensor:
        """``(n,)`` losses of n forms of this class, each of a batch of its own; a form may do better than n calls.

        Args:
            forms: the same but for their knobs, and trained on the same data.
            scores: ``(n, B, ...)``.
            targets: ``(n, B, ...)``.
            call: as in :meth:`forward`.
        """
        return torch.stack([form(own, y, call=call) for form, own, y in zip(forms, scores, targets, strict=True)])

    #: Whether what it read of the scores of a batch is a constant where it is differentiated twice; see :class:`Parts`.
    holds_still: ClassVar[bool] = False

    #: How the metric it has reads batches; :class:`metricgrad.Loss` then does it for all its parts.
    class_targets: ClassTargets | None = None

    def forget(self) -> None:
        """Forget the data it was called with: another training begins."""
        for part in self.modules():
            if isinstance(part, Form) and part is not self:
                part.forget()

    @property
    def carries(self) -> bool:
        """Whether what it keeps of one call for the next depends on parameters, its own or those of its parts."""
        return any(part.carries for part in self.modules() if isinstance(part, Form) and part is not self)

    #: The most losses that :meth:`parts` may give.
    most_parts: ClassVar[int] = 1

    def parts(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Parts:
        """The losses that it is the sum of, each of which an anchored loss brings to its base's size; itself alone.

        Args:
            scores: with gradients on.
            targets: as in :meth:`forward`, as all else.
            call: likewise.
            context: likewise.
        """
        still = replace(call, counts=False)
        value = self(scores, targets, call=call, **context)
        return Parts(lambda scores: (self(scores, targets, call=still, **context),), losses=(value,))

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able keyword arguments that build this form again; a foreign metric is left out."""

    @property
    def of_logits(self) -> bool:
        """Whether scores of labels are read as logits, so that probabilities in their place are a mistake."""
        return True

    def directional_derivative(
        self, scores: Tensor, targets: Tensor, tangent: Tensor, *, call: CallContext, **context: Tensor | None
    ) -> Tensor | None:
        """The loss's derivative along a direction in the scores, differentiable in the form's parameters.

        Args:
            scores: detached.
            targets: as in :meth:`forward`.
            tangent: in the shape of the scores.
            call: as in :meth:`forward`.
            context: likewise.

        Returns:
            0-d; None where the loss does not depend on the scores. A form may do better than this double backward.
        """
        leaf = scores.detach().requires_grad_()
        value = self(leaf, targets, call=call, **context)
        if not value.requires_grad:
            return None
        (slopes,) = torch.autograd.grad(value, leaf, create_graph=True)
        return (slopes * tangent).sum()

    def knobs(self) -> Mapping[str, Knob]:
        """Few, named, bounded scalars; none by default. Those of one role share the name before a ``[``."""
        return {}

    @torch.no_grad()
    def project(self) -> None:
        """Bring moved knobs back into what is allowed: each between its bounds."""
        for knob in self.knobs().values():
            knob.parameter.clamp_(knob.low, knob.high)
