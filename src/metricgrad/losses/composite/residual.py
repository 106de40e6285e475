"""Losses made of a base you know and something an aligner moves: a correction, or one rate."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import checked_number
from metricgrad.losses.composite.form_on_base import FormOnBase
from metricgrad.losses.networks.neural import NeuralLoss

NEAR_ZERO = 0.01


class Residual(FormOnBase):
    r"""A loss you know plus a small network that starts near zero: :math:`L = L_{base} + f M_\phi`.

    Use it in place of a bare :class:`NeuralLoss` where there is no time for an offline start: the first steps are those
    of the base.

    Args:
        base: ``"task"``, ``"cross_entropy"``, ``"mse"``, a form or a loss of ours, or a module of scores and targets.
        form: what is added; a :class:`NeuralLoss` whose last layer is a hundredth of the usual by default.
        factor: f, above 0: how much a change of the network counts, and so how fast it learns under Adam.

    Cost: both.

    Example:
        >>> import torch
        >>> form = Residual("cross_entropy")
        >>> scores, targets = torch.zeros(2, 4), torch.tensor([0, 1])
        >>> abs(float(form(scores, targets, call=CallContext(0, 0))) - math.log(4)) < 0.01
        True

    References:
        C. Raymond et al., "Meta-Learning Adaptive Loss Functions", TMLR 2025; the residual is ours.
    """

    kind: ClassVar[str] = "residual"

    def __init__(self, base: str | nn.Module = "task", form: Form | None = None, *, factor: float = 1.0) -> None:
        super().__init__(base)
        self.factor = checked_number("factor", factor)
        self.form = NeuralLoss(kind=self.problem, start=NEAR_ZERO) if form is None else form

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d."""
        added = self.form(scores, targets, call=call, **context)
        return self.based(scores, targets, call, context) + self.factor * added

    def directional_derivative(
        self, scores: Tensor, targets: Tensor, tangent: Tensor, *, call: CallContext, **context: Tensor | None
    ) -> Tensor | None:
        """The sum of both; a base without parameters is left out, because it has no part in the hypergradient."""
        parts = [(self.form, self.factor)]
        if isinstance(self.base, Form) and next(self.base.parameters(), None) is not None:
            parts.append((self.base, 1.0))
        found = [
            (part.directional_derivative(scores, targets, tangent, call=call, **context), factor)
            for part, factor in parts
        ]
        known = [factor * value for value, factor in found if value is not None]
        return torch.stack(known).sum() if known else None

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        described = {"base": self.described_base(), "form": [self.form.kind, self.form.config()]}
        return described if self.factor == 1 else {**described, "factor": self.factor}


class LearnedRate(FormOnBase):
    r"""A loss you know times one learned factor: :math:`L = e^{\rho} L_{base}`.

    The control for every learned loss: with plain SGD it can do nothing but set the learning rate, and a learned loss
    that is no better than it has learned nothing but a rate. Under Adam, which divides by the gradient's size, it can
    do next to nothing.

    Args:
        base: as in :class:`Residual`.

    Example:
        >>> form = LearnedRate("mse")
        >>> float(form(torch.tensor([2.0]), torch.tensor([0.0]), call=CallContext(0, 0)))
        4.0
    """

    kind: ClassVar[str] = "learned_rate"

    def __init__(self, base: str | nn.Module = "task") -> None:
        super().__init__(base)
        self.log_rate = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d."""
        value = self.based(scores, targets, call, context)
        return value * self.log_rate.exp().to(value.dtype)

    def knobs(self) -> dict[str, Knob]:
        """``log_rate``, within a factor of a hundred."""
        return {"log_rate": Knob(self.log_rate, -math.log(100), math.log(100))}

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {"base": self.described_base()}
