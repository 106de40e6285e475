"""The gradients as the backward passes left them, and the way from there to the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from metricgrad.aligners.lookahead.clipping import Clipping, Gradients, clipping_vjp
from metricgrad.aligners.lookahead.history import SkippedStepError
from metricgrad.aligners.lookahead.outer_products import ParameterDirection, whole
from metricgrad.aligners.lookahead.plain_numbers import Constants
from metricgrad.aligners.lookahead.recorded_calls import Contribution
from metricgrad.aligners.lookahead.recorder import Recorder
from metricgrad.aligners.lookahead.replay import gradients_again, is_close
from metricgrad.distributed import Ranks
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form


class GradientChanges:
    """What was done to gradients between backward and step, over the steps of one training.

    Args:
        clipping: see :func:`metricgrad.aligners.lookahead.clipping.clipping_vjp`.
        ranks: over which gradients are averaged.
    """

    def __init__(self, clipping: Clipping, ranks: Ranks) -> None:
        self._clipping: Clipping = clipping
        self._ranks = ranks
        self._constants = Constants()

    def raw(
        self, form: Form, recorder: Recorder, contributions: Sequence[Contribution],
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> Gradients | None:  # fmt: skip
        """The gradients as the backward passes left them; None where they still are.

        They are computed again where they were not copied: at the first change, which begins the copies, and where
        hooks changed them before they could be copied or a user assigned them.

        Raises:
            SkippedStepError: where what was computed again does not explain those that the optimiser sees.
        """
        gradients = recorder.gradients
        certain = not (recorder.by_hand or gradients.hooked)
        if certain and gradients.all_unchanged():
            return None
        if certain and gradients.copies:
            return dict(gradients.raw)
        gradients.copies = True
        with undisturbed():
            again = gradients_again(form, contributions, {p: p for p in gradients.reached}, self._ranks)
        seen = {p: torch.zeros_like(p) if p.grad is None else p.grad for p in again}
        kept = {p for p in again if is_close(again[p], seen[p]) or (certain and gradients.is_unchanged(p))}
        if len(kept) == len(again):
            return None
        raw = {p: seen[p].clone() if p in kept else g for p, g in again.items()}
        try:
            clipping_vjp(raw, seen, {p: torch.zeros_like(p) for p in again}, "scale")
        except MetricgradError as error:
            why = (
                "the gradients that the optimiser sees are not those of this loss, computed again, as clipping leaves "
                "them: by rounding, as under autocast to half precision, by a part of another loss, such as a penalty, "
                "or by a change of another kind. From the next step on they are copied first, and told"
            )
            if recorder.by_hand:
                why = "gradients were assigned by hand, and not those of this loss alone; call backward() instead"
            elif gradients.hooked:
                why = "hooks on the parameters' gradients changed them in a way that cannot be told; remove the hooks"
            raise SkippedStepError("changed", why) from error
        return raw

    def vjp(
        self, raw: Gradients, seen: Gradients, direction: ParameterDirection, held: Iterable[Tensor],
        recorder: Recorder, contributions: Sequence[Contribution],
    ) -> tuple[ParameterDirection, Gradients]:  # fmt: skip
        """A direction in the gradients the optimiser saw, in those the backward passes left, and what these are.

        A norm may have been taken over gradients that the step does not depend on otherwise: of parameters that the
        objective does not read, or that the optimiser does not hold.

        Args:
            raw: as the backward passes left them.
            seen: as the optimiser saw them.
            direction: in some of them.
            held: parameters that were stepped.
            recorder: what was seen of the step.
            contributions: what the loss put into the gradients.

        Raises:
            SkippedStepError: where the way from one to the other cannot be told.
        """
        factors = {abs(float(part.factor)) for part in contributions} - {0.0}
        scales = [factor * n for factor in factors for n in (1, len(contributions))]
        # a gradient scaler's scale is a power of two, which the loss may have been divided by a number of batches after
        scales += [
            2.0 ** (math.ceil(math.log2(most)) + n)
            for most in {max(factors, default=0.0)}
            if most > 16
            for n in range(6)
        ]
        reached, beside = recorder.gradients.reached, recorder.gradients.beside
        dense = {p: whole(along) for p, along in direction.items()}
        dense |= {p: torch.zeros_like(raw[p]) for p in reached if p in seen and p not in direction}
        of_optimizer: Gradients = {p: p.grad for p in held if p not in dense and p.grad is not None}
        of_model: Gradients = {
            p: torch.zeros_like(p) if p.grad is None else p.grad  # thrown away, and it may have been in the norm
            for p in recorder.beside
            if (p in beside or p.grad is not None) and not (p.grad is not None and p.grad.is_sparse)
        }
        try:
            found, before = clipping_vjp(
                raw, seen, dense, self._clipping, self._constants,
                others=[of_optimizer, of_model], live=beside, scales=scales,
            )  # fmt: skip
        except MetricgradError as error:
            raise SkippedStepError("changed", str(error)) from error
        return {**found}, before
