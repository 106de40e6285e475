r"""Whether the gradients are what the recorded calls of the loss put there, shown by one number.

For any direction w in the parameters, :math:`\sum_k c_k \nabla_s \ell(s_k) \cdot J_k w` is :math:`g \cdot w`. The left
side is computed as the hypergradient is, from what was recorded; on the right is the gradient of the user's own
backward pass. Where they differ, and the recorded calls computed again do not explain it, something happened that was
not recorded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metricgrad.aligners.lookahead.forward_mode import ForwardMode
from metricgrad.aligners.lookahead.history import SkippedStepError
from metricgrad.aligners.lookahead.outer_products import OuterProducts, ParameterDirection, blocks
from metricgrad.aligners.lookahead.recorded_calls import ScoreTangent
from metricgrad.aligners.lookahead.replay import as_called, gradients_again
from metricgrad.aligners.norms import dot
from metricgrad.distributed import Ranks
from metricgrad.losses.base import Form
from metricgrad.on_host import read
from metricgrad.precision import wide

_EVERY = 25
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_OF_DIFFERENCES = {torch.float64: 1e-5, torch.float32: 2e-2}
_COARSE = 5e-2
_OF_A_KINK = 1e-2
"""What one unit within rounding of a kink makes of the sums: our forward pass may take it on the other side."""
_RARE = 20
"""Proofs that have to hold between two steps at a kink; what fails more often is no matter of rounding."""
AT_A_KINK = "kink"
"""The kind of a step that is passed over without a word."""

Sums = tuple[float, float]


class Proofs:
    """The proofs of one training: at the first steps, at every 25th, where a step is unlike the last, and in doubt."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._looks, self._shape, self._held = 0, (), _RARE  # as if so many proofs had held

    def check(
        self, form: Form, pushed: Sequence[ScoreTangent], direction: ParameterDirection,
        gradients: Mapping[Tensor, Tensor], values: Mapping[Tensor, Tensor], doubt: str | None,
        forward_mode: ForwardMode,
    ) -> None:  # fmt: skip
        """Prove this step, where that is due.

        Args:
            form: the loss form.
            pushed: what the recorded calls put into the gradients, and the scores' tangents.
            direction: w.
            gradients: g, as the backward passes left it.
            values: of the parameters before the step.
            doubt: why the gradients may hold more than what was recorded, or None.
            pusher: the way to the tangents.

        Raises:
            SkippedStepError: where the proof fails.
        """
        shape = (len(pushed), len(direction), *(one.of.parameters is None for one in pushed))
        self._looks += 1
        due = self._looks <= 2 or self._looks % _EVERY == 0 or shape != self._shape
        if not (due or doubt or self._held == 0):
            return
        held, self._shape, self._held = self._held, shape, 0
        if found := _difference(form, pushed, direction, gradients, values, doubt, forward_mode, self._ranks):
            why, small = found
            raise SkippedStepError(AT_A_KINK if small and held >= _RARE else "unproved", why)
        self._held = held + 1


def _difference(
    form: Form, pushed: Sequence[ScoreTangent], direction: ParameterDirection, gradients: Mapping[Tensor, Tensor],
    values: Mapping[Tensor, Tensor], doubt: str | None, forward_mode: ForwardMode, ranks: Ranks,
) -> tuple[str, bool] | None:  # fmt: skip
    """Why the gradients are not what was recorded, and whether a kink may be all there is to it; or None."""
    found = of_calls(form, pushed)
    if found is None:
        moved = "the loss has another value when it is computed again; do not change its inputs or itself"
        return doubt or moved, False
    casts = any(call.autocast.enabled for one in pushed for call, _ in one.of.loss.heads)
    dtype = torch.bfloat16 if casts else pushed[0].of.loss.scores.dtype
    near = functools.partial(is_near, dtype=dtype, differences=forward_mode.takes_differences)
    there = of_gradients(gradients, direction)
    if near(there[0], found[0], there[1] + found[1]):
        return None
    if doubt is not None:
        return doubt, False
    again = gradients_again(form, [one.of for one in pushed], {p: values[p] for p in direction}, ranks)
    here = of_gradients(again, direction)
    if not near(here[0], found[0], here[1] + found[1]):
        return (
            "the model's backward pass is not the derivative of its forward pass (a straight-through estimator, a "
            "reversed gradient, a hook inside it), which LookAhead does not go through"
        ), abs(here[0] - found[0]) <= _OF_A_KINK * (here[1] + found[1])
    return None  # another loss has a part in the gradients, which this one's form does not change


def of_calls(form: Form, pushed: Sequence[ScoreTangent]) -> Sums | None:
    """The left side, and the size of its terms; None where a loss computed again has another value."""
    total = size = 0.0
    for one in pushed:
        loss = one.of.loss
        leaf = loss.scores.clone().requires_grad_()
        with torch.enable_grad(), as_called(form, loss, loss.form.parameters):
            value = form(leaf, loss.targets, call=loss.call, **loss.context)
        if not is_near(float(value.detach()), float(loss.value), abs(float(loss.value)), loss.scores.dtype):
            return None
        if not value.requires_grad:
            continue
        (slopes,) = torch.autograd.grad(value, leaf)
        terms = slopes * one.tangent * one.of.factor
        total, size = total + float(wide(terms).sum()), size + float(wide(terms).abs().sum())
    return total, size


def of_gradients(gradients: Mapping[Tensor, Tensor], direction: ParameterDirection) -> Sums:
    """The right side, and the size of its terms."""
    of_all: list[Tensor] = []  # three numbers of each block of rows: the product, and both squared lengths
    for p, along in direction.items():
        gradient = gradients[p].detach()
        for rows, block in blocks(gradient):
            part = wide(block)
            other = wide(along[rows]) if isinstance(along, Tensor) else torch.zeros_like(part)
            of_all += [dot(part, other), dot(part, part), dot(other, other)]
        if isinstance(along, OuterProducts):
            of_all += [along.dot(gradient), *gradient.new_zeros(2)]
    numbers = read(of_all)
    total, squared, length = (sum(numbers[i::3]) for i in range(3))
    return total, math.sqrt(squared * length)


def is_near(a: float, b: float, size: float, dtype: torch.dtype, *, differences: bool = False) -> bool:
    """Whether two numbers are one, up to the rounding of terms of that size, or to the error of differences."""
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
        return True
    tolerance = (_OF_DIFFERENCES if differences else _TOLERANCE).get(dtype, _COARSE)
    return abs(a - b) <= tolerance * size + 1e-300
