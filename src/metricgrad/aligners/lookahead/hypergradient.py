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
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import TrainingContext
from metricgrad.aligners.channels_last import channels_last
from metricgrad.aligners.isolation import borrowed, kept_randomness, parameters_of, plain_checkpoints
from metricgrad.aligners.lookahead.clipping import Clipping, Gradients
from metricgrad.aligners.lookahead.forward_mode import ForwardMode
from metricgrad.aligners.lookahead.gradient_changes import GradientChanges
from metricgrad.aligners.lookahead.history import LookAheadResult, SkippedStepError
from metricgrad.aligners.lookahead.optimizer_jacobians import (
    Before,
    Group,
    before_step,
    is_uniform,
    known_kind,
    stepped_parameters,
    through_step,
    uniform_slope,
)
from metricgrad.aligners.lookahead.outer_products import OuterProducts, ParameterDirection, blocks
from metricgrad.aligners.lookahead.plain_numbers import Constants, powers_of
from metricgrad.aligners.lookahead.proof import Proofs
from metricgrad.aligners.lookahead.recorded_calls import Contribution, ModelCall, ScoreTangent
from metricgrad.aligners.lookahead.recorder import Recorder
from metricgrad.aligners.lookahead.replay import as_called
from metricgrad.aligners.lookahead.validation_gradient import Objective, on_training_batch, on_validation_batch
from metricgrad.aligners.norms import dot
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form

_MEASURED_EVERY = 10


class OneStep:
    """Looks ahead through single steps of one attached training.

    A step whose hypergradient cannot be told is passed over.

    Args:
        training: what it is attached to.
        objective: of scores and targets; what the step should have lowered.
        clipping: see :func:`metricgrad.aligners.lookahead.clipping.clipping_vjp`.
        forward_mode: remembers which way works for the model.

    Attributes:
        recorder: what was seen since the last step.
        why: why the last step was passed over, where it was.

    Raises:
        MetricgradError: for an optimiser without a rule, or one that moves none of the model's parameters.
    """

    def __init__(
        self, training: TrainingContext, objective: Objective, clipping: Clipping, forward_mode: ForwardMode
    ) -> None:
        known_kind(training.optimizer)
        self.training, self._objective = training, objective
        self._record_anew()
        self._forward_mode = forward_mode
        self._before: dict[Tensor, Before] = {}
        self._spare: dict[Tensor, Tensor] = {}
        self._raw: Gradients | None = None
        self._seen: list[tuple[Tensor, int]] = []
        self._contributions: list[Contribution] = []
        self._powers: list[float] = []
        ranks = training.loss.ranks
        self._uses, self._clipping, self._proofs = Constants(), GradientChanges(clipping, ranks), Proofs(ranks)
        self._looks = 0
        self.why: SkippedStepError | None = None

    def _record_anew(self) -> None:
        optimizer = self.training.optimizer
        stepped = {p for group in optimizer.param_groups for p in group["params"]}
        self._own = {p: None for p in self.training.model.parameters() if p in stepped and p.requires_grad}
        if not self._own:
            raise MetricgradError(
                "the optimiser moves none of the attached model's parameters; attach the model it was built from"
            )
        if (recorder := getattr(self, "recorder", None)) is not None:
            recorder.remove()
        copies = recorder is not None and recorder.gradients.copies
        averaged = self.training.loss.ranks.count > 1
        self.recorder = Recorder(self.training.model, list(self._own), optimizer, copies=copies, averaged=averaged)

    def close(self) -> None:
        """Take the hooks off."""
        self.recorder.remove()

    @property
    def ready(self) -> bool:
        """Whether the step just taken can be differentiated: the loss had a part in it."""
        return bool(self._before)

    def before(self) -> bool:
        """Keep what the step will overwrite; False where the loss has no part in this step, or it is passed over.

        A step in which a parameter moves for the first time (unfrozen, or added to the optimiser) is passed over.
        """
        self._before, self.why, recorder = {}, None, self.recorder
        try:
            if not self._has_part_on_every_rank():
                return False
            self._raw = self._clipping.raw(self.training.loss.form, recorder, self._contributions, self.undisturbed)
        except SkippedStepError as why:
            self.why = SkippedStepError(why.kind, str(why))  # no traceback, which would hold the graph
            return False
        self._before = before_step(self.training.optimizer, self._spare)
        self._seen = [(p.grad, p.grad._version) for p in self._before if p.grad is not None]
        return True

    def _has_part_on_every_rank(self) -> bool:
        """Whether the loss has a part in the step on this rank and on all others, which look ahead together.

        Raises:
            SkippedStepError: on every rank, where one of them passes over the step.
        """
        ranks = self.training.loss.ranks
        if ranks.count == 1:
            return self._has_part()
        why, has_part = None, False
        try:
            has_part = self._has_part()
        except SkippedStepError as error:
            why = error
        said = ranks.of_all((has_part, None if why is None else (why.kind, str(why))))
        if found := [other for _, other in said if other is not None]:
            raise SkippedStepError(*found[0])
        return all(part for part, _ in said)

    def _has_part(self) -> bool:
        """Whether the loss has a part in the step, and which."""
        recorder = self.recorder
        recorder.claim()
        if not recorder.done():
            return False
        if getattr(self.training.optimizer, "grad_scale", None) is not None:
            raise MetricgradError(
                "the optimiser unscales gradients inside its step (fused, with a GradScaler), where LookAhead cannot "
                "see them; build it with fused=False"
            )
        if any(
            p not in self._own and p in set(self.training.model.parameters())
            for p, _ in stepped_parameters(self.training.optimizer)
        ):
            self._record_anew()
            return False
        recorder.check()
        self._contributions = recorder.contributions()
        pairs = [(part.beside_share, part.loss.value) for part in self._contributions]
        self._powers = powers_of(pairs, self._uses)
        return True

    def after(self, form: Form, batch: Any) -> LookAheadResult | None:
        """Look ahead through the step just taken.

        Args:
            form: the loss form; one tensor for each of its parameters is returned.
            batch: the validation batch; None for the last training batch.

        Returns:
            None where the hypergradient cannot be told.
        """
        before, self._before = self._before, {}
        try:
            with self.undisturbed():
                return self._looked(form, batch, before)
        except SkippedStepError as why:
            self.why = SkippedStepError(why.kind, str(why))  # no traceback, which would hold the graph
            return None

    def _looked(self, form: Form, batch: Any, before: dict[Tensor, Before]) -> LookAheadResult:
        optimizer, recorder = self.training.optimizer, self.recorder
        now = [p.grad for p in before]
        if any(
            a is not b or a._version != version
            for a, (b, version) in zip(now, self._seen, strict=True)
            if a is not None
        ):
            raise SkippedStepError(
                "late",
                "gradients were changed by a hook on the step that was registered after the loss was called; register "
                "it before",
            )
        groups = {p: group for p, group in stepped_parameters(optimizer) if p in self._own and p in before}
        seen = {p: p.grad for p in groups if p.grad is not None}
        alone = self.training.loss.ranks.count == 1
        apart = alone and self._raw is None and is_uniform(optimizer) and self._forward_mode.takes_products
        if batch is None:
            value, ahead = on_training_batch(self._objective, self.training, recorder.done()[-1], list(groups))
        else:
            values = {p: kept.value for p, kept in before.items()}
            with channels_last(self._forward_mode.channels_last(values, self._contributions)):
                value, ahead = on_validation_batch(self._objective, self.training, list(groups), batch, apart=apart)
        products = self._along_way(ahead, before)
        self._looks += 1
        pushed, times = self._pushed(form, ahead, seen, groups, before)
        return LookAheadResult.read(self._along(form, pushed, times), value, list(seen.values()), products)

    def _pushed(
        self, form: Form, ahead: dict[Tensor, Tensor | OuterProducts], seen: dict[Tensor, Tensor],
        groups: dict[Tensor, Group], before: dict[Tensor, Before],
    ) -> tuple[list[ScoreTangent], float]:  # fmt: skip
        """Where w takes the scores of each call of the loss, over a number that all of w was left to be multiplied by.

        What is ahead is used up, and w is not kept: each is as large as the model.
        """
        optimizer = self.training.optimizer
        reached = [p for p in ahead if p in self.recorder.gradients.reached]
        if not reached:
            return [], 1.0
        slopes = {uniform_slope(optimizer, p, groups[p], before[p]) for p in reached}
        shared = slopes.pop() if len(slopes) == 1 else None
        with torch.no_grad():
            direction: ParameterDirection = {
                p: v if shared is not None else through_step(optimizer, p, groups[p], before[p], v)
                for p in reached
                for v in [ahead.pop(p)]
            }
            raw, parts, gradients = self._raw, self._contributions, seen
            if raw is not None:
                direction, gradients = self._clipping.vjp(raw, seen, direction, before, self.recorder, parts)
        values = {p: before[p].value if p in before else p.detach() for p in [*before, *direction]}
        pushed = [
            ScoreTangent(part, self._tangent(direction, values, part), power)
            for part, power in zip(parts, self._powers, strict=True)
        ]
        self._proofs.check(form, pushed, direction, gradients, values, self.recorder.doubt(), self._forward_mode)
        return pushed, 1.0 if shared is None else shared

    def _along_way(self, ahead: ParameterDirection, before: dict[Tensor, Before]) -> list[tuple[Tensor, Tensor]] | None:
        """The products that :meth:`LookAheadResult.read` takes; None for nine steps of ten that had to multiply out."""
        if self._looks % _MEASURED_EVERY and any(isinstance(v, OuterProducts) for v in ahead.values()):
            return None
        products: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for p, v in ahead.items():
                for rows, block in blocks(v):
                    way = before[p].value[rows] - p[rows]
                    products.append((dot(way, block), dot(block, block)))
        return products

    def _tangent(self, direction: ParameterDirection, values: dict[Tensor, Tensor], part: Contribution) -> Tensor:
        """Where the direction takes the scores of one call of the loss."""
        into = {p: along for p, along in direction.items() if part.parameters is None or p in part.parameters}
        with torch.no_grad():
            found = [(head, self._jvp(into, values, call)) for call, head in part.loss.heads]
        # on other ranks' rows it is 0, and on this one's so many times as large as there are ranks
        (tangent,) = self.training.loss.ranks.mean([functools.reduce(torch.add, [h.jvp(t) for h, t in found])])
        return tangent

    def _jvp(self, direction: ParameterDirection, values: dict[Tensor, Tensor], call: ModelCall) -> list[Tensor]:
        if call.module is not self.training.model:
            own = set(call.module.parameters())
            values = {p: value for p, value in values.items() if p in own}
            direction = {p: part for p, part in direction.items() if p in own}
        return self._forward_mode.jvp(call.module, values, direction, call)

    def _along(self, form: Form, pushed: list[ScoreTangent], times: float) -> list[Tensor]:
        """d/dphi of the loss's gradient along so many times the direction."""
        phi = parameters_of(form)
        total: list[Tensor | None] = [None] * len(phi)
        for one in pushed:
            loss, factor = one.of.loss, one.of.factor * times
            leaves = {p: value.detach().requires_grad_() for p, value in loss.form.parameters.items()}
            with as_called(form, loss, leaves):
                # a form's own way may leave out what does not depend on its parameters, which a power needs
                own = Form if one.power else type(form)
                value = own.directional_derivative(
                    form, loss.scores, loss.targets, one.tangent, call=loss.call, **loss.context
                )
                if value is None:
                    continue
                value = value * factor
                if one.power:
                    itself = form(loss.scores, loss.targets, call=loss.call, **loss.context)
                    value = value + value.detach() * one.power * itself / loss.value
                if not value.requires_grad:
                    continue
                found = torch.autograd.grad(value, [leaves[p] for p in phi], allow_unused=True)
            total = [g if t is None else t if g is None else t + g for t, g in zip(total, found, strict=True)]
        return [torch.zeros_like(p) if t is None else t for t, p in zip(total, phi, strict=True)]

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Gradients on, autocast as in the step just taken; random states, buffers, attributes are then as before."""
        device = next(iter(self._own)).device
        cast = self.recorder.done()[-1].heads[0][0].autocast.again()
        still = kept_randomness(device), borrowed(self.training.model), plain_checkpoints(), self.paused()
        with still[0], still[1], still[2], still[3], torch.enable_grad(), cast:
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
