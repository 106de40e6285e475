"""Optimiser steps taken for their hypergradient alone, beside a training that may be attached."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import AlignedLoss, Forward, TrainingContext
from metricgrad.aligners.isolation import device_of, kept_randomness, untouched
from metricgrad.aligners.lookahead.attachment import Attachment
from metricgrad.aligners.lookahead.forward_mode import ForwardMode
from metricgrad.aligners.lookahead.hypergradient import OneStep
from metricgrad.aligners.lookahead.optimizer_jacobians import unwrapped
from metricgrad.aligners.lookahead.unrolled import unrolled
from metricgrad.distributed import apart, bare
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext


class DryRun:
    """Steps whose hypergradient is computed and that the loss is not moved by; this rank's own affair.

    Args:
        loss: whose form the gradient is of.
        attachment: where calls of the loss are recorded, to the training's or to the dry run's.
    """

    def __init__(self, loss: AlignedLoss, attachment: Attachment) -> None:
        self._loss, self._attachment = loss, attachment

    def hypergradient(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], valid_batch: Any,
        forward: Forward, fresh: ForwardMode | None = None,
    ) -> tuple[list[Tensor], float]:  # fmt: skip
        """The hypergradient through a step on each batch, and the objective's value.

        Nothing is changed; where ``fresh`` is given, the model and its optimiser are nobody's, and take the steps.
        """
        model, optimizer = bare(model), unwrapped(optimizer)
        if len(batches) > 1:
            found = self.unrolled(model, optimizer, batches, valid_batch, forward)
            if fresh is not None:
                self._take(model, optimizer, batches, forward)
            return found
        result = None
        with self._recorded(TrainingContext(self._loss, model, optimizer, None, forward, None), fresh) as step:
            scores, targets = forward(model, batches[0])
            self._loss(scores, targets).backward()
            if step.before():
                optimizer.step()
                result = step.after(self._loss.form, valid_batch)
            elif step.why is None:
                return [torch.zeros_like(p) for p in self._loss.form.parameters()], float("nan")
        if step.why is not None or result is None:
            raise MetricgradError(f"there is no hypergradient of this step: {step.why}")
        return result.gradients, result.objective

    def unrolled(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], valid_batch: Any,
        forward: Forward,
    ) -> tuple[list[Tensor], float]:  # fmt: skip
        """The same by double backward through all steps, none of which is taken."""
        loss, objective = self._loss, self._attachment.objective
        call = CallContext(loss.seed, int(loss.steps), counts=False)
        with kept_randomness(device_of(list(model.parameters()))):
            read = TrainingContext(loss, model, optimizer, None, forward, None).scored
            return unrolled(loss.form, bare(model), optimizer, batches, valid_batch, objective, read, call)

    def _take(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], forward: Forward
    ) -> None:
        """Take plain steps that nothing records."""
        with apart(), self._paused():
            for batch in batches:
                optimizer.zero_grad()
                scores, targets = forward(model, batch)
                self._loss(scores, targets).backward()
                optimizer.step()

    @contextlib.contextmanager
    def _recorded(self, training: TrainingContext, fresh: ForwardMode | None) -> Generator[OneStep]:
        """A training of its own, beside the one that may be attached."""
        attachment = self._attachment
        outer, dry = attachment.step, attachment.dry
        kept = untouched(training.loss, training.model, training.optimizer)
        with apart(), kept if fresh is None else contextlib.nullcontext(), self._paused():
            step = attachment.step = attachment.record(training, fresh)
            attachment.dry = True
            try:
                yield step
            finally:
                step.close()
                attachment.step, attachment.dry = outer, dry

    def _paused(self) -> contextlib.AbstractContextManager[None]:
        step = self._attachment.step
        return contextlib.nullcontext() if step is None else step.paused()
