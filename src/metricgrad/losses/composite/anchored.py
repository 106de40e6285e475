"""A learned or metric loss that rides on a loss that trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob, Parts, Ramp, Told, ordinary
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.batches import checked_number
from metricgrad.losses.composite.form_on_base import FormOnBase
from metricgrad.losses.composite.parameter_places import places_of, standing
from metricgrad.losses.composite.sizes import LEAST, mean_of, means_of, ratio, ratios
from metricgrad.losses.given_gradient import GivenGradient
from metricgrad.on_host import OnHost, read
from metricgrad.value_range import look_at

_FACTOR = math.log(10)
Weight = float | Sequence[float]


class Anchored(FormOnBase):
    r"""A form whose gradient is brought to the size of its base's and added to it.

    .. math:: g = a(u) \, g_{base} + w(u) \, e^\rho \sum_k \frac{\|g_{base}\|}{\|g_k\|} \, g_k

    in the scores, with :math:`g_k` the gradients of the losses that the form is the sum of (:meth:`Form.parts`), norms
    over the whole batch as moving means of their squares, and u the share of training done: from ``fit`` or
    ``attach(total_steps=)``, otherwise that of the first 500 calls.

    Alone, a metric linearised at chance sends every row to extreme classes and never returns, and a bounded learned
    loss leaves hard rows without a gradient and drifts in scale; on a base that trains, both add what they know. Use it
    around any form that does not train from scratch. Not where the base is wrong about everything: it sets the size.

    Args:
        base: ``"task"``, ``"cross_entropy"``, ``"mse"``, a form or a loss of ours, or a module of scores and targets.
        form: what rides on it.
        weight: w: a number from 0, or ``(start, end, by)``: from one to the other by this share of training. None: what
            the form says, or (0, 1, 1).
        base_weight: a, likewise; by default what the form says, or 1.
        momentum: of the moving means, in [0, 1); 0 takes the norms of each batch by themselves.

    The value is the metric's distance from ideal where the form has a metric, and the base's otherwise; its gradient is
    g, so finite differences of the value do not show it. It is differentiable twice in the scores and in the form's
    parameters: the gradient of g takes the ratio of norms as the function of both that it is (it is not symmetric: g is
    the gradient of no function), and as constants the norms of before and what :class:`Parts` fixes. ``log_weight`` is
    :math:`\rho`, a knob within :math:`\pm\log 10`. The means change once in each training call, never in backward.

    Cost: both, and one backward pass of each to the scores; under LookAhead these gradients are kept until the step.

    Raises:
        MetricgradError: for a form that is none, and weights out of range.

    Example:
        >>> import torch
        >>> from metricgrad.losses.networks.neural import NeuralLoss
        >>> form = Anchored("cross_entropy", NeuralLoss(), weight=0.5)
        >>> scores, targets = torch.zeros(2, 4, requires_grad=True), torch.tensor([0, 1])
        >>> value = form(scores, targets, call=CallContext(0, 0))
        >>> bool(torch.isclose(value, torch.tensor(4.0).log()))
        True
    """

    kind: ClassVar[str] = "anchored"
    squared_norms: Tensor

    def __init__(
        self,
        base: str | nn.Module = "task",
        form: Form | None = None,
        *,
        weight: Weight | None = None,
        base_weight: Weight | None = None,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(base)
        if not isinstance(form, Form):
            raise MetricgradError(
                f"form is a {type(form).__name__}; expected a form, such as mg.forms.NeuralLoss(), to ride on the base"
            )
        self.form = form
        self.weight, self.base_weight = _ramp("weight", weight), _ramp("base_weight", base_weight)
        self.momentum = checked_number("momentum", momentum, zero=True, most=0.999)
        self.log_weight = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.register_buffer("squared_norms", torch.full((1 + form.most_parts,), torch.nan, dtype=torch.float64))
        self._known, self._factor = OnHost(_numbers), OnHost(_exp)

    @property
    def carries(self) -> bool:
        """Also where means of norms go on from call to call."""
        learned = (p for part in (self.form, self.base) for p in part.parameters())
        return super().carries or (self.momentum > 0 and next(learned, None) is not None)

    def forget(self) -> None:
        """Also how large the gradients of the parts were."""
        super().forget()
        self.squared_norms.fill_(torch.nan)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d: see the class."""
        if not scores.is_floating_point():
            raise MetricgradError(f"scores must be a floating tensor of logits, got {scores.dtype}")
        check_tensor("targets", targets)
        with torch.inference_mode(False), torch.enable_grad():
            leaf, targets = ordinary(scores).detach().requires_grad_(), ordinary(targets)
            context = {name: ordinary(value) for name, value in context.items()}
            look_at(leaf, targets, *context.values())  # what both ask for, of all at once
            parts = self.form.parts(leaf, targets, call=call, **context)
            slope, base = self._base_of(leaf, targets, parts, call, context)
            # what is differentiated later reads the means of before
            shown = parts.shown
            if parts.gradients is None:
                assert slope is not None
                before: Tensor | tuple[float, ...] = self.squared_norms.clone()
                each = _slopes(parts, leaf, False)
                gradient, means = self._gradient(slope, each, parts, call, before)
                if call.notes is not None:
                    call.notes.setdefault(self, (slope, each))
                if call.counts:  # in place: who puts the state of a training back holds this tensor
                    kept = self.squared_norms[: len(means)]
                    kept.copy_(torch.where(means < math.inf, means, kept.to(means.device)))
            else:
                before = self._known.of(self.squared_norms)
                gradient, told = self._of_gradients(slope, parts.gradients, parts, call)
                if isinstance(shown, Told):
                    shown = shown.say(told)
        if isinstance(shown, Tensor):
            shown = shown.to(leaf.dtype)
        elif not isinstance(shown, float):
            assert base is not None
            shown = base.detach()
        if not torch.is_grad_enabled():
            return leaf.new_full((), shown) if isinstance(shown, float) else shown

        def again(scores: Tensor) -> Tensor:
            rest, still = replace(parts, losses=parts.again(scores), gradients=None), replace(call, counts=False)
            slope = _slope(self._of_base(scores, targets, still, context), scores, True)
            means = before if isinstance(before, Tensor) else self.squared_norms.new_tensor(before)
            return self._gradient(slope, _slopes(rest, scores, True), rest, call, means)[0]

        places = places_of(self)

        def restored(scores: Tensor, values: Sequence[Tensor]) -> Tensor:
            with standing(places, values):
                return again(scores)

        learned = [held[name] for held, name in places]
        return cast(Tensor, GivenGradient.apply(shown, gradient, restored, scores, *learned))

    def directional_derivative(
        self, scores: Tensor, targets: Tensor, tangent: Tensor, *, call: CallContext, **context: Tensor | None
    ) -> Tensor | None:
        r"""The product of g and the direction, the norms' ratio a function of the form's parameters too.

        Of a form that is one loss, with :math:`g_1` its gradient, :math:`m_1` the mean of its squared norm, of which
        this batch is the share :math:`\mu`, and v the direction, its gradient in the form's parameters is that of the
        form's own derivative along :math:`v - \mu\, (g_1 \cdot v) / m_1\; g_1`, times the weight.
        """
        learned_base = isinstance(self.base, nn.Module) and any(p.requires_grad for p in self.base.parameters())
        if type(self.form).parts is Form.parts and not learned_base:
            return self._of_one_loss(scores, targets, tangent, call, context)
        leaf = scores.detach().requires_grad_()
        slope = _slope(self._of_base(leaf, targets, call, context), leaf, True)
        parts = self.form.parts(leaf, targets, call=call, **context)
        if parts.losses is None:
            parts = replace(parts, losses=parts.again(leaf), gradients=None)
        gradient, _ = self._gradient(slope, _slopes(parts, leaf, True), parts, call, self.squared_norms.clone())
        return (gradient * tangent).sum()

    def _of_one_loss(
        self, scores: Tensor, targets: Tensor, tangent: Tensor, call: CallContext, context: Mapping[str, Tensor | None]
    ) -> Tensor | None:
        if call.notes is not None and self in call.notes:
            of_base, (own,) = call.notes[self]
        else:
            leaf, still = scores.detach().requires_grad_(), replace(call, counts=False)
            own = _slope(self.form(leaf, targets, call=still, **context), leaf, False)
            of_base = _slope(self._of_base(leaf, targets, still, context), leaf, False)
        was, mean = means_of([of_base, own], self.squared_norms, self.momentum)
        weight = (self.weight or Ramp(0.0, 1.0)).at(call.share) * self.log_weight.exp()
        weight = weight * ratios(mean)[0]
        product = (own * tangent).sum()
        share = torch.where(was[1] >= 0, 1 - self.momentum, 1.0) / mean[1].clamp(min=LEAST)
        way = tangent - (share * product).to(own.dtype) * own
        pushed = self.form.directional_derivative(scores, targets, way, call=call, **context)
        value = (self.base_weight or Ramp(1.0, 1.0)).at(call.share) * (of_base * tangent).sum()
        value = value + weight.to(own.dtype) * product
        return value if pushed is None else value + weight.detach().to(own.dtype) * (pushed - pushed.detach())

    def _base_of(
        self, leaf: Tensor, targets: Tensor, parts: Parts, call: CallContext, context: Mapping[str, Tensor | None]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The base's gradient and value; of cross-entropy the gradient that came along, and no value.

        None of both where it has no weight, at any time, and nothing is brought to its size.
        """
        weight = self.base_weight or parts.base_weight
        if weight is not None and weight.start == weight.end == 0 and parts.gradients is not None and not parts.matched:
            return None, None
        of_labels = isinstance(self.base, TaskLoss) and self.base.kind != "regression"
        if of_labels and parts.cross_entropy is not None and parts.shown is not None:
            return parts.cross_entropy, None
        value = self._of_base(leaf, targets, call, context)
        return _slope(value, leaf, False), value

    def _of_base(
        self, scores: Tensor, targets: Tensor, call: CallContext, context: Mapping[str, Tensor | None]
    ) -> Tensor:
        """The base's value; a loss of rows does not ask which of them are one query, image or person."""
        of_rows = isinstance(self.base, TaskLoss)
        taken = {name: value for name, value in context.items() if not of_rows or name in ("mask", "sample_weight")}
        return self.based(scores, targets, call, taken)

    def _of_gradients(
        self, of_base: Tensor | None, gradients: Sequence[Tensor], parts: Parts, call: CallContext
    ) -> tuple[Tensor, list[float]]:
        """g from the gradients themselves, and the numbers of what is shown: the host reads those of both at once."""
        sized = tuple(gradients) if of_base is None else (of_base, *gradients)
        norms = torch._foreach_norm(sized)  # pyright: ignore[reportPrivateImportUsage] - all at once
        told = parts.shown.numbers if isinstance(parts.shown, Told) else ()
        found = read([*norms, *told])
        was, first = self._known.of(self.squared_norms), 1 + len(gradients) - len(sized)
        now = [mean_of(*pair, self.momentum) for pair in zip(found[: len(norms)], was[first:], strict=False)]
        means = [*was[:first], *now]
        a, w = self._weights(parts, call)
        w *= self._factor.of(self.log_weight)
        total = torch.zeros_like(gradients[0]) if of_base is None else of_base * a
        for part, mean in zip(gradients, means[1:], strict=True):
            # one after another: side by side they would take three times the memory
            total.add_(part, alpha=w * ratio(means[0], mean) if parts.matched else w)
        if call.counts:
            kept = [new if new < math.inf else old for new, old in zip(means, was, strict=False)]
            for place, number in zip(self.squared_norms.unbind()[first:], kept[first:], strict=False):
                place.fill_(number)  # in place: who puts the state of a training back holds this tensor
            self._known.wrote(self.squared_norms, (*kept, *was[len(kept) :]))
        return total, found[len(norms) :]

    def _weights(self, parts: Parts, call: CallContext) -> tuple[float, float]:
        """a and w."""
        a, w = self.base_weight or parts.base_weight or Ramp(1.0, 1.0), self.weight or parts.weight or Ramp(0.0, 1.0)
        return a.at(call.share), w.at(call.share)

    def _gradient(
        self, of_base: Tensor, each: Sequence[Tensor], parts: Parts, call: CallContext, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """g from the gradients of the base and the parts, and the means of squared norms with this batch in them."""
        _, mean = means_of([of_base, *each], before, self.momentum)
        a, w = self._weights(parts, call)
        factors = self.log_weight.exp().expand(len(each))
        if parts.matched:
            factors = factors * ratios(mean)
        total = a * of_base
        for part, factor in zip(each, factors.to(of_base.dtype).unbind(), strict=True):
            # one after another: side by side they would take three times the memory
            total = torch.addcmul(total, part, factor, value=w)
        return total, mean

    @property
    def of_logits(self) -> bool:
        """As the form."""
        return self.form.of_logits

    def knobs(self) -> dict[str, Knob]:
        """``log_weight``, within a factor of ten."""
        return {"log_weight": Knob(self.log_weight, -_FACTOR, _FACTOR)}

    def project(self) -> None:
        """Its own knob and the form's between their bounds."""
        super().project()
        self.form.project()

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        ramps = {"weight": self.weight, "base_weight": self.base_weight}
        return {
            "base": self.described_base(),
            "form": [self.form.kind, self.form.config()],
            "momentum": self.momentum,
            **{name: None if r is None else [r.start, r.end, r.by] for name, r in ramps.items()},
        }

    def extra_repr(self) -> str:
        """Its settings."""
        return f"weight={self.weight}, base_weight={self.base_weight}, momentum={self.momentum:g}"


def _ramp(name: str, weight: Weight | None) -> Ramp | None:
    if weight is None:
        return None
    if isinstance(weight, str) or (isinstance(weight, Sequence) and len(weight) != 3):
        raise MetricgradError(f"{name} is {weight!r}; expected a number from 0 up, or (start, end, by)")
    given = weight if isinstance(weight, Sequence) else (weight, weight, 1.0)
    start, end = (checked_number(name, value, zero=True) for value in given[:2])
    return Ramp(start, end, checked_number(f"{name}'s third number", given[2], most=1.0))


def _numbers(tensor: Tensor) -> tuple[float, ...]:
    return tuple(tensor.tolist())


def _exp(tensor: Tensor) -> float:
    return math.exp(tensor.item())


def _slope(value: Tensor, scores: Tensor, create_graph: bool) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(scores)
    (found,) = torch.autograd.grad(value, scores, create_graph=create_graph, allow_unused=True)
    return torch.zeros_like(scores) if found is None else found


def _slopes(parts: Parts, scores: Tensor, create_graph: bool) -> list[Tensor]:
    return [_slope(value, scores, create_graph) for value in parts.losses or ()]
