"""What the learned loss forms share: a network of what a loss reads, fitted before training and then frozen."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.functional.by_group import by_group
from metricgrad.losses.batches import labelled
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.form import Draw, Form
from metricgrad.metrics.context import prepare
from metricgrad.metrics.context_checks import given_names
from metricgrad.metrics.decoding import is_binary


class NetworkForm(Form):
    """Abstract: a form whose value is the output of a small network.

    Attributes:
        seed: of the network's first weights.
        scale: 0-d positive buffer that multiplies the value; set so that gradients are of the usual size.
        anchor: 0-d buffer, the weight of the standard loss that is added to the value; 0 unless a system sets it.
    """

    #: Whether targets are labels of rows or entries, for which cross-entropy and the error rate mean something.
    of_labels: ClassVar[bool] = True
    #: Whether scores are embeddings, whose columns are no classes.
    of_embeddings: ClassVar[bool] = False
    #: Whether ``(N,)`` scores may be lists of several queries: the value is then the mean over the queries.
    takes_groups: ClassVar[bool] = False
    scale: Tensor
    anchor: Tensor

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("anchor", torch.zeros(()))

    @property
    def of_logits(self) -> bool:
        """Where targets are labels."""
        return self.of_labels

    @abc.abstractmethod
    def networks(self) -> Sequence[Network]:
        """The networks, in a fixed order."""

    @abc.abstractmethod
    def over(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The unscaled value of each of B batches of one size.

        Args:
            scores: ``(B, N)`` or ``(B, N, C)`` logits, or what :meth:`read` gives with a leading axis.
            targets: ``(B, N)`` classes, or 0 and 1 in the shape of the scores.

        Returns:
            ``(B,)``.
        """

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One batch in the shapes of :meth:`over`, rows first: classification; forms of other things override it."""
        return labelled(scores, targets, mask)

    def condensed(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One batch of :meth:`read`, as small as it can be with the same value here and by :meth:`standard`.

        Fits keep hundreds of batches; a form that reads little of long scores overrides it. A fit's gradient penalty
        and its report's slopes are then those by the condensed scores.
        """
        return scores, targets

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d: the loss people use today for what this form reads, which a fitted form must beat."""
        return CrossEntropy()(scores, targets)

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """0-d and non-negative; zero with a zero gradient for an empty batch."""
        given_names(context, ("groups",) if self.takes_groups else (), type(self).__name__)
        groups, mask = context.get("groups"), context.get("mask")
        check_tensor("scores", scores)
        if groups is not None:
            scores, targets, groups = self._lists(scores, targets, groups, mask)
            mask = None
        scores, targets = self.read(scores, targets, mask)
        if not targets.numel():
            return (scores * 0).sum()
        value = self.scale.to(scores.dtype) * self.unscaled(scores, targets, groups)
        if bool(self.anchor):
            value = value + self.anchor.to(scores.dtype) * self.usual(scores, targets, groups)
        return value

    def unscaled(self, scores: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """0-d: the network's value of one batch of :meth:`read`, the mean over its groups where it has any."""
        if groups is None:
            return self.over(scores[None], targets[None])[0]
        return by_group(self.over, groups, scores, targets)[1].mean()

    def usual(self, scores: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """0-d: the standard loss of one batch of :meth:`read`, the mean over its groups where it has any."""
        if groups is None:
            return self.standard(scores, targets)

        def of_lists(scores: Tensor, targets: Tensor) -> Tensor:
            return torch.stack([self.standard(*pair) for pair in zip(scores, targets, strict=True)])

        return by_group(of_lists, groups, scores, targets)[1].mean()

    def towards(self, slope: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
        """The slope of each entry in the direction of its target; forms of other things override it.

        Args:
            slope: in the shape of the scores.
            scores: of one batch of :meth:`read`.
            targets: likewise; entries below 0 are padding where they are classes.

        Returns:
            ``(entries,)``.
        """
        if scores.ndim == targets.ndim + 1:
            kept = targets >= 0
            return slope.gather(-1, targets.long().clamp(min=0)[..., None])[..., 0][kept]
        binary = is_binary(targets)
        direction = 2 * targets.to(scores.dtype) - 1 if binary else (targets - scores).sign()
        return (slope * direction).flatten()

    def _lists(
        self, scores: Tensor, targets: Tensor, groups: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``(N,)`` scores and targets that the mask keeps, and the query of each."""
        name = type(self).__name__
        context = {"groups": groups, "mask": mask}
        stack, targets, kept = prepare(
            scores[None], targets, context, takes=frozenset({"groups"}), keeps_apart=None, name=name
        )
        if stack.ndim != 2:
            raise MetricgradError("each row of (N, C) scores is a query by itself; leave groups out")
        return stack[0], targets, kept["groups"]

    def reset(self, seed: int) -> None:
        """Draw the weights anew; nothing but the seed decides them."""
        generator = torch.Generator().manual_seed(seed)
        for network in self.networks():
            network.reset(generator)
        self.requires_grad_(False)


class Network(nn.Module):
    r"""Linear layers with ELU between them, or the same with an output that never falls when an input rises.

    A monotone layer multiplies by :math:`|W|`, and half of its units turn the ELU round, :math:`-\mathrm{ELU}(-x)`:
    with one bend alone, non-negative weights could make convex functions only.

    Args:
        widths: of the input, each hidden layer and the output.
        monotone: whether the output is non-decreasing in every input.

    References:
        Both bends: D. Runje and S. Shankaranarayana, "Constrained Monotonic Neural Networks", ICML 2023.
    """

    def __init__(self, widths: Sequence[int], *, monotone: bool) -> None:
        super().__init__()
        self.monotone = monotone
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(out, inner)) for inner, out in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(out)) for out in widths[1:])

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            fan_in = weight.shape[1]
            # |W| has the mean of its bound's half: a bound of 1 / sqrt(fan_in) would add up to a slope of sqrt(fan_in)
            bound = 4 / fan_in if self.monotone else 1 / math.sqrt(fan_in)
            with torch.no_grad():
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                bias.copy_((torch.rand(bias.shape, generator=generator) * 2 - 1) * min(1.0, 4 * bound))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., inputs)`` to ``(..., outputs)``, in the dtype of ``x``."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weight = weight.abs() if self.monotone else weight
            x = nn.functional.linear(x, weight.to(x.dtype), bias.to(x.dtype))
            if i < last:
                x = _both_bends(x) if self.monotone else nn.functional.elu(x)
        return x


def _both_bends(x: Tensor) -> Tensor:
    up, down = x.chunk(2, -1)
    return torch.cat([nn.functional.elu(up), -nn.functional.elu(-down)], -1)
