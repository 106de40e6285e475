"""What LookAhead keeps of the training it is attached to: the step that is recorded, a window of steps, and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from metricgrad.aligners.base import TrainingContext
from metricgrad.aligners.isolation import kept_foreign_randomness
from metricgrad.aligners.lookahead.clipping import Clipping
from metricgrad.aligners.lookahead.forward_mode import ForwardMode
from metricgrad.aligners.lookahead.history import NOT_REPEATED, LookAheadResult
from metricgrad.aligners.lookahead.hypergradient import OneStep
from metricgrad.aligners.lookahead.recorder import Recorder
from metricgrad.aligners.lookahead.validation_gradient import Objective
from metricgrad.aligners.lookahead.window import Window
from metricgrad.aligners.validation_batches import EndlessBatches
from metricgrad.errors import MetricgradError


class Attachment:
    """One training at a time, or none; a copy is attached to nothing.

    Args:
        objective: what steps should lower.
        clipping: see :func:`metricgrad.aligners.lookahead.clipping.clipping_vjp`.
        exact: whether forward mode is tried, or differences at once.
        steps: how many optimiser steps are looked through at once.

    Attributes:
        step: what calls of the loss are recorded in: of the training, or of a dry run beside it; None without either.
        dry: whether it is a dry run's.
    """

    def __init__(self, objective: Objective, clipping: Clipping, *, exact: bool, steps: int) -> None:
        self.objective, self.exact, self._steps = objective, exact, steps
        self._clipping: Clipping = clipping
        self.step: OneStep | None = None
        self.dry = False
        self._window = Window(steps) if steps > 1 else None
        self._valid: EndlessBatches | None = None
        self._forward_modes: WeakKeyDictionary[nn.Module, ForwardMode] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Callable[..., Attachment], tuple[Any, ...]]:
        """Hooks, graphs and weak references can be neither pickled nor shared."""
        return _unattached, (self.objective, self._clipping, self.exact, self._steps)

    def record(self, training: TrainingContext, forward_mode: ForwardMode | None = None) -> OneStep:
        """Begin to record a training's steps; which forward mode works is remembered for its model.

        Raises:
            MetricgradError: for an optimiser without a rule, or one that moves none of the model's parameters.
        """
        forward_mode = forward_mode or self._forward_modes.setdefault(training.model, ForwardMode(self.exact))
        return OneStep(training, self.objective, self._clipping, forward_mode)

    def begin(self, training: TrainingContext, valid: EndlessBatches | None, *, paused: bool) -> None:
        """Attach to a training, whose steps are judged on these batches, or each on its own; ``paused``, not the next.

        Raises:
            MetricgradError: on several ranks, for a window or sharded parameters; for a window over a form that
                :attr:`metricgrad.losses.base.Form.carries`; see also :meth:`record`.
        """
        if training.loss.ranks.count > 1:
            if self._window is not None:
                raise MetricgradError(f"LookAhead(steps={self._steps}) looks through one process only; take steps=1")
            if any(hasattr(p, "device_mesh") for p in training.model.parameters()):
                raise MetricgradError(
                    "LookAhead needs whole parameters, and fully_shard leaves a part on each rank; wrap the model in "
                    "DDP, or use another aligner"
                )
        if self._window is not None:
            if training.loss.form.carries:
                raise MetricgradError(
                    f"LookAhead(steps={self._steps}) does not look through what the loss keeps from call to call, the "
                    "mean size of its gradients; make it with Anchored(..., momentum=0), or take steps=1"
                )
            self._window.clear()
        self.step, self._valid = self.record(training), valid
        self.step.recorder.paused = paused

    def go_on(self, *, paused: bool) -> None:
        """From a state that was loaded: whether the step under way is one to look through."""
        if self.step is not None and not self.dry:
            self.step.recorder.paused = paused

    def end(self) -> None:
        """Take the hooks off."""
        if self.step is not None:
            self.step.close()
        self.step = self._valid = None

    @property
    def live(self) -> OneStep | None:
        """The step of the attached training, unless a dry run is under way."""
        return None if self.dry else self.step

    @property
    def recorder(self) -> Recorder | None:
        """Where calls of the loss go, if anywhere."""
        return None if self.step is None else self.step.recorder

    def before_step(self, step: OneStep) -> None:
        """Keep what the optimiser step will overwrite."""
        if step.recorder.paused:
            return
        if self._window is not None:
            self._window.before(step.training, step.recorder)
        else:
            step.before()
            self._check_ranks(step)

    def look_ahead(self, step: OneStep, given: Any) -> LookAheadResult | None:
        """Through the optimiser step just taken, or all those of a full window.

        Args:
            step: the live one.
            given: a validation batch that goes before those of the attachment, or None.

        Returns:
            None where there is nothing to look through, or the hypergradient cannot be told: ``step.why`` then.

        Raises:
            MetricgradError: for a window without validation batches; on several ranks, where the forward pass cannot
                be repeated.
        """
        if not step.ready and (self._window is None or not self._window.full):
            return None
        with kept_foreign_randomness():
            batch = self._valid.draw() if given is None and self._valid is not None else given
            if self._window is None:
                found = step.after(step.training.loss.form, batch)
                self._check_ranks(step)
                return found
            if batch is None:
                raise MetricgradError(
                    f"steps is {self._steps}, and there are no validation batches to judge them by; pass valid= to "
                    "attach"
                )
            with step.undisturbed():
                return self._window.after(step.training, step.training.loss.form, self.objective, batch)

    def _check_ranks(self, step: OneStep) -> None:
        """Do not pass over what this rank alone may have found: the others would wait for it.

        Raises:
            MetricgradError: of several ranks, where the forward pass could not be repeated.
        """
        if step.why is not None and step.why.kind == NOT_REPEATED and step.training.loss.ranks.count > 1:
            raise step.why

    def next_step(self, step: OneStep, *, paused: bool) -> None:
        """Forget the optimiser step that was taken, and record the next, unless it is left out."""
        step.recorder.clear()
        step.recorder.paused = paused
        if self._window is not None and paused:
            self._window.clear()


def _unattached(objective: Objective, clipping: Clipping, exact: bool, steps: int) -> Attachment:
    return Attachment(objective, clipping, exact=exact, steps=steps)
