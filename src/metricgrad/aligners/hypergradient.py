r"""The exact gradient of a validation objective with respect to the loss, through one optimiser step just taken.

With :math:`\theta' = U(\theta, g)`, :math:`g = \sum_k c_k J_k^\top \nabla_s \ell_\phi(s_k)` and :math:`v` the gradient
of the objective at :math:`\theta'`,

.. math:: \frac{d\,\mathrm{objective}}{d\phi} = \frac{d}{d\phi} \sum_k c_k \nabla_s \ell_\phi(s_k) \cdot J_k w, \qquad
    w = \Bigl(\frac{\partial\,\mathrm{clip}}{\partial g}\Bigr)^\top \Bigl(\frac{\partial U}{\partial g} \circ v\Bigr)

because the step is linear in the loss's gradient with respect to the scores. :math:`J_k w` is one forward-mode product
of the model at the parameters before the step, so nothing is differentiated twice but the loss.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import Scene
from metricgrad.aligners.clipping import Clipping, through
from metricgrad.aligners.forward_mode import Pusher
from metricgrad.aligners.isolation import borrowed, kept_randomness
from metricgrad.aligners.optimizers import Before, before_step, is_uniform, moved, rule_of, slope
from metricgrad.aligners.outer_products import Direction, LinearTaps, OuterProducts, joined, times, whole
from metricgrad.aligners.recording import LossCall, ModelCall, Recorder, outputs_of
from metricgrad.aligners.replay import gradients_again, is_close
from metricgrad.aligners.watching import Ahead
from metricgrad.errors import MetricgradError
from metricgrad.losses.form import Form

Objective = Callable[..., Tensor]

_MEASURED_EVERY = 10


class OneStep:
    """Looks ahead through single steps of one attached training.

    Args:
        scene: the training.
        objective: of scores and targets; what the step should have lowered.
        clipping: see :func:`metricgrad.aligners.clipping.through`.
        pusher: remembers which way works for the model.

    Raises:
        MetricgradError: for an optimiser without a rule, or one that moves none of the model's parameters.
    """

    def __init__(self, scene: Scene, objective: Objective, clipping: Clipping, pusher: Pusher) -> None:
        rule_of(scene.optimizer)
        self.scene, self._objective = scene, objective
        self._clipping: Clipping = clipping
        self._watch_anew()
        self._pusher = pusher
        self._before: dict[Tensor, Before] = {}
        self._spare: dict[Tensor, Tensor] = {}
        self._looks, self._as_left = 0, True

    def _watch_anew(self) -> None:
        stepped = {p for group in self.scene.optimizer.param_groups for p in group["params"]}
        self._own = {p: None for p in self.scene.model.parameters() if p in stepped and p.requires_grad}
        if not self._own:
            raise MetricgradError(
                "the optimiser moves none of the attached model's parameters; attach the model it was built from"
            )
        if (recorder := getattr(self, "recorder", None)) is not None:
            recorder.remove()
        copies = recorder is not None and recorder.copies
        self.recorder = Recorder(self.scene.model, list(self._own), copies=copies)

    def close(self) -> None:
        """Take the hooks off."""
        self.recorder.remove()

    @property
    def ready(self) -> bool:
        """Whether the step just taken can be differentiated: the loss had a part in it."""
        return bool(self._before)

    def before(self) -> bool:
        """Keep what the step will overwrite; False where the loss has no part in this step.

        A step in which a parameter moves for the first time (unfrozen, or added to the optimiser) is passed over.
        """
        self._before = {}
        if not self.recorder.done():
            return False
        if getattr(self.scene.optimizer, "grad_scale", None) is not None:
            raise MetricgradError(
                "the optimiser unscales gradients inside its step (fused, with a GradScaler), where LookAhead cannot "
                "see them; build it with fused=False"
            )
        if any(p not in self._own and p in set(self.scene.model.parameters()) for p, _ in moved(self.scene.optimizer)):
            self._watch_anew()
            return False
        self._as_left = all(map(self.recorder.as_left, self.recorder.left))
        if not self._as_left and not self.recorder.copies:
            self.recorder.copies = True
            if not self._take_gradients_again():
                return False
        self._before = before_step(self.scene.optimizer, self._spare)
        return True

    def _take_gradients_again(self) -> bool:
        """Find what the backward passes left in gradients that were changed since; False where that cannot be told."""
        recorder = self.recorder
        with self.undisturbed():
            again = gradients_again(self.scene.loss.form, recorder.done(), recorder.left)
        seen = {p: torch.zeros_like(p) if p.grad is None else p.grad for p in again}
        changed = {p for p in again if not recorder.as_left(p) and not is_close(again[p], seen[p])}
        recorder.raw = {p: g if p in changed else seen[p] for p, g in again.items()}
        try:
            through(recorder.raw, seen, {p: torch.zeros_like(p) for p in again}, self._clipping)
        except MetricgradError:
            warnings.warn(
                "gradients were changed between backward and step, and what they were cannot be told from this loss "
                "alone, so LookAhead passes over this step; from the next one on it keeps a copy of them",
                stacklevel=2,
            )
            return False
        return True

    def after(self, form: Form, batch: Any) -> Ahead:
        """Look ahead through the step just taken.

        Args:
            form: the loss form; one tensor for each of its parameters is returned.
            batch: the validation batch; None for the last training batch.
        """
        losses = self.recorder.done()
        optimizer, recorder = self.scene.optimizer, self.recorder
        groups = {p: group for p, group in moved(optimizer) if p in self._own and p in self._before}
        seen = {p: p.grad for p in groups if p.grad is not None}
        apart = self._as_left and is_uniform(optimizer) and self._pusher.takes_products
        with self.undisturbed():
            value, ahead = self._ahead(losses[-1], list(groups), batch, apart=apart)
        slopes = {p: slope(optimizer, p, groups[p], self._before[p]) for p in ahead if p in recorder.left}
        if slopes:
            shared = _shared(list(slopes.values()))
            with torch.no_grad():
                direction: Direction = {
                    p: ahead[p] if shared is not None else times(ahead[p], of) for p, of in slopes.items()
                }
                if not self._as_left:
                    dense = {p: whole(v) for p, v in direction.items()}
                    direction = {**through(recorder.raw, seen, dense, self._clipping)}
            found = self._along(form, losses, direction, 1.0 if shared is None else shared)
        else:
            found = [torch.zeros_like(p) for p in form.parameters()]
        rate = self._implied_rate(ahead)
        self._before = {}
        self._looks += 1
        return Ahead(found, value, _length(list(seen.values())), rate)

    def _implied_rate(self, ahead: Direction) -> float:
        """See :class:`Ahead`; where outer products would have to be multiplied out for it, at every tenth look."""
        if self._looks % _MEASURED_EVERY and any(isinstance(v, OuterProducts) for v in ahead.values()):
            return float("nan")
        progress = squared = 0.0
        with torch.no_grad():
            for p, v in ahead.items():
                for rows, block in v.blocks() if isinstance(v, OuterProducts) else [(..., v)]:
                    # what was kept of the parameters has done its work: the step is written over it
                    way = self._before[p].value[rows].sub_(p[rows])
                    progress, squared = progress + _dot(way, block), squared + _dot(block, block)
        return progress / squared if squared > 0 else 0.0

    def _ahead(self, last: LossCall, parameters: list[Tensor], batch: Any, *, apart: bool) -> tuple[float, Direction]:
        """The objective and its gradient at the stepped parameters, by linear weights as outer products if told so."""
        if batch is not None:
            taps = LinearTaps(self.scene.model if apart else None)
            with taps:
                scores, targets = self.scene.forward(self.scene.model, batch)
                value = self._objective(scores, targets)
            if not value.requires_grad:
                return float(value), {}
            with taps.collecting():
                gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            return float(value.detach()), joined(parameters, gradients, taps.found())
        outputs: list[Tensor] = []
        pushed = last.scores
        shifts: list[list[Tensor]] = []
        for call, head in last.heads:
            if not head.is_affine(call.outputs):
                raise MetricgradError(
                    "without validation batches the training batch serves, which needs scores that are the model's "
                    "output up to slices, reshapes and scales; pass valid= to attach, or valid_batch= to step"
                )
            again = outputs_of(call.module(*call.args, **call.kwargs))
            shift = [(new - old).detach().requires_grad_() for new, old in zip(again, call.outputs, strict=True)]
            pushed = pushed + head.push(shift, create_graph=True)
            outputs += again
            shifts.append(shift)
        value = self._objective(pushed, last.targets, **last.context)
        flat = [part for shift in shifts for part in shift]
        back = torch.autograd.grad(value, flat, allow_unused=True)
        live = [(o, b) for o, b in zip(outputs, back, strict=True) if b is not None and o.requires_grad]
        gradients = torch.autograd.grad(
            [o for o, _ in live], parameters, [b for _, b in live], allow_unused=True
        )  # fmt: skip
        return float(value.detach()), joined(parameters, gradients, {})

    def _along(self, form: Form, losses: list[LossCall], direction: Direction, times: float) -> list[Tensor]:
        """d/dphi of the loss's gradient along so many times the direction."""
        phi = list(form.parameters())
        total: Tensor | None = None
        uncast = torch.autocast(losses[0].scores.device.type, enabled=False)  # as the loss itself
        with self.paused(), torch.enable_grad(), _differentiable(phi), uncast:
            for loss in losses:
                with torch.no_grad():
                    parts = [(head, self._push(direction, call)) for call, head in loss.heads]
                tangent = functools.reduce(torch.add, (head.push(tangents).detach() for head, tangents in parts))
                draw = dataclasses.replace(loss.draw, counts=False)
                value = form.along(loss.scores, loss.targets, tangent, draw=draw, **loss.context)
                if value is not None and value.requires_grad:
                    assert loss.factor is not None
                    value = value * loss.factor * times
                    total = value if total is None else total + value
            if total is None:
                return [torch.zeros_like(p) for p in phi]
            found = torch.autograd.grad(total, phi, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(phi, found, strict=True)]

    def _push(self, direction: Direction, call: ModelCall) -> list[Tensor]:
        own = set(call.module.parameters())
        values = {p: before.value for p, before in self._before.items() if p in own}
        along = {p: part for p, part in direction.items() if p in own}
        return self._pusher.push(call.module, values, along, call)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Gradients on, autocast as in the step just taken; random states and buffers are afterwards as before."""
        last = self.recorder.done()[-1]
        device = next(iter(self._own)).device
        cast = last.heads[0][0].autocast.again()
        with kept_randomness(device), borrowed(self.scene.model), self.paused(), torch.enable_grad(), cast:
            yield

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is recorded inside."""
        was = self.recorder.paused
        self.recorder.paused = True
        try:
            yield
        finally:
            self.recorder.paused = was


def _shared(slopes: list[Tensor | float]) -> float | None:
    """The one number that all slopes are, or None: then no tensor as large as the model need be multiplied by it."""
    first = slopes[0]
    return first if isinstance(first, float) and all(type(s) is float and s == first for s in slopes) else None


def _length(tensors: list[Tensor]) -> float:
    return sum(float(tensor.norm()) ** 2 for tensor in tensors) ** 0.5


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


@contextlib.contextmanager
def _differentiable(parameters: Sequence[Tensor]) -> Iterator[None]:
    """The parameters require gradients inside, and as before afterwards."""
    was = [p.requires_grad for p in parameters]
    try:
        for p in parameters:
            p.requires_grad_(True)
        yield
    finally:
        for p, before in zip(parameters, was, strict=True):
            p.requires_grad_(before)
