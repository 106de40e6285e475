"""Whether a loss of a metric of sets is trained on parts of a batch, whose gradients are added up before one step."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from metricgrad.handle import Handle
from metricgrad.metrics.metric import Metric

_STEPS = 8
"""Optimiser steps after which a loop is known."""
_OF_SETS = ("labels", "ranking", "positives_over_negatives", "tokens", "neighbours")


class Accumulation:
    """Counts the calls of one attached loss between optimiser steps, in the first of these.

    Two calls between two steps are parts of one batch where gradients came between them and are still there, twice in a
    row: loss scaling skips a step now and then, and losses that are added up have one backward pass.

    Args:
        form: what the loss looks like.
    """

    def __init__(self, form: nn.Module) -> None:
        held = (value for part in form.modules() for value in vars(part).values())
        self._of_sets = next((one.name for one in held if isinstance(one, Metric) and _is_of_sets(one)), None)
        self._optimizer: torch.optim.Optimizer | None = None
        self._before: list[tuple[int, int]] = []
        self._calls = self._parts = self._steps = self._in_a_row = 0

    def follow(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Watch the first steps of a training, until the handle is detached."""
        self._calls = self._parts = self._steps = self._in_a_row = 0
        self._optimizer = None if self._of_sets is None else optimizer
        hook = optimizer.register_step_post_hook(lambda *_: self._stepped())

        def remove() -> None:
            hook.remove()
            self._optimizer = None

        return Handle(remove)

    def called(self) -> None:
        """A call that counts as a step."""
        if self._optimizer is None:
            return
        held = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        now = [(id(gradient), gradient._version) for gradient in held]
        if self._calls and now != self._before and any(bool(gradient.any()) for gradient in held):
            self._parts = max(self._parts, 1) + 1
        self._before, self._calls = now, self._calls + 1

    def _stepped(self) -> None:
        if self._optimizer is None:
            return
        parts, self._in_a_row = self._parts, self._in_a_row + 1 if self._parts else 0
        self._calls, self._parts, self._steps = 0, 0, self._steps + 1
        if self._in_a_row == 2:
            warnings.warn(
                f"the loss was called on {parts} batches before one optimiser step, so it trains on {self._of_sets} of "
                "each, which is another metric than that of all their rows; where they are parts of one batch, take "
                "mg.microbatched(loss, model, inputs, targets), or AlignLoss(microbatch=) in a trainer: the gradient "
                "of the whole in the memory of a part",
                stacklevel=2,
            )
        if self._in_a_row == 2 or self._steps == _STEPS:
            self._optimizer = None


def _is_of_sets(metric: Metric) -> bool:
    """Whether it is no mean over rows or queries, as far as is known."""
    known = metric.structure
    return known is not None and known.kind in _OF_SETS and known.keeps_apart != "row"
