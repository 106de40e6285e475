"""What the learned loss forms are: a reader of batches and a small network, fitted before training and then frozen.

A form of one's own is a :class:`metricgrad.losses.networks.reader.Reader`, a module of its readings, and a subclass
that names both; groups, scale, the standard loss beside it, saving and fitting are here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.functional.by_group import by_group
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.networks.mlp import MLP
from metricgrad.losses.networks.reader import Reader
from metricgrad.metrics.context import given_names
from metricgrad.metrics.layouts.rows import prepare


class NetworkForm(Form):
    """Abstract: a form whose value is what a small network makes of the readings of a batch.

    Args:
        reader: of batches.
        network: of the reader's readings, ``(B, ...)`` each, to ``(B,)`` values.
        seed: of the network's first weights.
        options: further keyword arguments that build the form again.

    Attributes:
        scale: 0-d positive buffer that multiplies the value; set so that gradients are of the usual size.
        anchor: 0-d buffer, the weight of the standard loss that is added to the value; 0 unless a system sets it.
    """

    scale: Tensor
    anchor: Tensor

    def __init__(self, reader: Reader, network: nn.Module, *, seed: int, **options: Any) -> None:
        super().__init__()
        self.reader, self.network, self.seed, self._options = reader, network, seed, options
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("anchor", torch.zeros(()))
        self.reset(seed)

    @property
    def of_logits(self) -> bool:
        """Where targets are labels."""
        return self.reader.of_labels

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {**self._options, "seed": self.seed}

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d and non-negative; zero with a zero gradient for an empty batch."""
        given_names(context, ("groups",) if self.reader.takes_groups else (), type(self).__name__)
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
            value = value + self.anchor.to(scores.dtype) * self.standard_loss(scores, targets, groups)
        return value

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One batch as the reader checks and shapes it, rows first."""
        return self.reader.read(scores, targets, mask, type(self).__name__)

    def over(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(B,)``: the unscaled value of each of B batches of one size, as :meth:`read` gives them."""
        return self.network(*self.reader.readings(scores, targets))

    def unscaled(self, scores: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """0-d: the network's value of one batch of :meth:`read`, the mean over its groups where it has any."""
        if groups is None:
            return self.over(scores[None], targets[None])[0]
        return by_group(self.over, groups, scores, targets)[1].mean()

    def standard_loss(self, scores: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """0-d: the reader's standard loss of one batch of :meth:`read`, the mean over its groups where it has any."""
        if groups is None:
            return self.reader.standard(scores, targets)

        def of_lists(scores: Tensor, targets: Tensor) -> Tensor:
            return torch.stack([self.reader.standard(*pair) for pair in zip(scores, targets, strict=True)])

        return by_group(of_lists, groups, scores, targets)[1].mean()

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
        generator = torch.Generator().manual_seed(checked_whole("seed", seed))
        for part in self.network.modules():
            if isinstance(part, MLP):
                part.reset(generator)
        self.requires_grad_(False)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in list(state_dict):  # in place: torch hands the same dict on to the parts
            state_dict[_in_network(name, prefix)] = state_dict.pop(name)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _in_network(name: str, prefix: str) -> str:
    """Where a tensor of version 0.1 is now: its one network was the form's, its several had no network around them."""
    if not name.startswith(prefix):
        return name
    first, _, rest = name[len(prefix) :].partition(".")
    if first == "network" and rest.startswith(("weights.", "biases.")):
        return f"{prefix}network.mlp.{rest}"
    return name if first in ("network", "scale", "anchor") else f"{prefix}network.{first}.{rest}"
