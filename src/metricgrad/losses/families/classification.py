"""A family of classification losses with a few knobs, cross-entropy among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import labelled, mask_of
from metricgrad.losses.families.classification_gradient import (
    Number,
    knob_of,
    log_balance,
    log_weights_of_rows,
    values_and_gradients,
)
from metricgrad.losses.given_gradient import GivenGradient
from metricgrad.outside_graphs import transformed

RANGES: dict[str, tuple[float, float]] = {
    "balance": (0.0, 1.0),
    "exponent": (0.0, 0.95),
    "focus": (0.0, 4.0),
    "smoothing": (0.0, 0.4),
    "adjustment": (-1.0, 1.5),
}
"""Knob -> its bounds. At 0, where each starts, it changes nothing."""

_LOG_WEIGHT = 1.5
_MOST_WEIGHTS = 6


class ClassificationFamily(Form):
    r"""Cross-entropy with five knobs that each bend it one way.

    .. math:: \frac1N \sum_i w_{y_i} (1 - p_{iy_i})^{\gamma} \Bigl[(1 - \epsilon)\, g_q(p_{iy_i})
        + \frac{\epsilon}{C} \sum_c g_q(p_{ic})\Bigr], \qquad g_q(p) = \frac{1 - p^q}{q}, \quad g_0(p) = -\log p

    with :math:`p_i = \mathrm{softmax}(s_i + \tau \log \pi)`,
    :math:`w_c = \pi_c^{-\beta} / \sum_k \pi_k^{1-\beta}`, and :math:`\pi` the class rates of the batches seen so far.
    The knobs are ``balance`` :math:`\beta` (0: every item weighs the same, 1: every class does), ``exponent`` q (robust
    to wrong labels), ``focus`` :math:`\gamma` (hard items), ``smoothing`` :math:`\epsilon` and ``adjustment``
    :math:`\tau` (for priors). All start at 0: cross-entropy exactly. Where scores and targets share their shape, every
    column is a problem of two classes.

    Use it as the form of :class:`metricgrad.systems.ala.ALA` for every kind of classification. Not for metrics of a
    ranking, whose order most of these knobs hardly change: see
    :class:`metricgrad.losses.families.ranking.RankingFamily`.

    Args:
        num_outputs: scores of an item, 1 for ``(N,)`` scores; None takes the first batch's.
        turns: which of the five are there; the others are left out, and cost nothing.
        class_weights: a further knob, ``weight[c]``, for each class: the log of its weight, from -1.5 to 1.5. For up
            to 6 classes, and not for scores shaped like their targets.

    Cost: O(N C) time and memory; of class targets on a CPU 75 small operations, the gradient included, where
    cross-entropy has 8, and twice as many elsewhere.

    Raises:
        MetricgradError: for unknown knobs, and for a batch of another number of scores.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, scores, targets = ClassificationFamily(2), torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> plain = torch.nn.functional.cross_entropy(scores, targets)
        >>> bool(torch.isclose(form(scores, targets, call=CallContext(0, 0)), plain))
        True

    References:
        Exponent: Z. Zhang and M. Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
        Labels", NeurIPS 2018, Eq. 6. Focus: T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq.
        5. Adjustment: A. Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021, Eq. 10.
    """

    kind: ClassVar[str] = "classification_family"
    counts: Tensor
    balance: Tensor
    exponent: Tensor
    focus: Tensor
    smoothing: Tensor
    adjustment: Tensor

    def __init__(
        self,
        num_outputs: int | None = None,
        *,
        turns: Sequence[str] = tuple(RANGES),
        class_weights: bool = False,
    ) -> None:
        super().__init__()
        if (unknown := [name for name in turns if name not in RANGES]) or isinstance(turns, str):
            unknown = [turns] if isinstance(turns, str) else unknown
            raise MetricgradError(f"turns has {', '.join(map(repr, unknown))}; expected some of {', '.join(RANGES)}")
        if num_outputs is not None and num_outputs < 1:
            raise MetricgradError(f"num_outputs is {num_outputs!r}; expected None, or 1 and more")
        if class_weights and not (num_outputs and 2 <= num_outputs <= _MOST_WEIGHTS):
            raise MetricgradError(
                f"class_weights needs num_outputs from 2 to {_MOST_WEIGHTS}, got {num_outputs!r}: a policy cannot tell "
                "more knobs apart; turn 'balance' instead"
            )
        self.num_outputs, self.turns, self.class_weights = num_outputs, tuple(turns), class_weights
        for name in self.turns:
            self.register_parameter(name, nn.Parameter(torch.zeros(()), requires_grad=False))
        weights = num_outputs if class_weights and num_outputs else 0
        self.log_weights = nn.Parameter(torch.zeros(weights), requires_grad=False)
        # one item of each class before the first batch, so that no rate is 0
        self.register_buffer("counts", torch.ones(num_outputs or 0, 2, dtype=torch.long))

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d and non-negative; zero with a zero gradient for an empty batch. Takes a ``mask``."""
        scores, targets = labelled(scores, targets, mask_of(context, type(self).__name__))
        if not targets.numel():
            return (scores * 0).sum()
        elementwise = scores.shape == targets.shape
        self._check(scores, elementwise)
        if call.counts:
            self.count(scores, targets)
        if elementwise or not _is_plain([self], scores):
            return self.of_checked(scores, targets)
        return self._of_classes([self], scores, targets[:, None])

    @classmethod
    def batched_forward(cls, forms: Sequence[Form], scores: Tensor, targets: Tensor, *, call: CallContext) -> Tensor:
        """One pass over all, the class rates counted over all together."""
        first = forms[0]
        if cls.forward is not ClassificationFamily.forward or not isinstance(first, ClassificationFamily):
            return super().batched_forward(forms, scores, targets, call=call)
        flat, labels = labelled(scores.flatten(0, 1), targets.flatten(0, 1))
        first.count(flat.detach(), labels)
        for form in forms[1:]:
            form.counts = first.counts
        batches = flat.view(*scores.shape[:2], *flat.shape[1:])
        if flat.shape == labels.shape or not _is_plain(forms, flat):
            return first._stacked(forms, batches, labels.view(targets.shape), first.counts)
        return first._of_classes(forms, batches, labels[:, None])

    def _of_classes(self, forms: Sequence[Form], scores: Tensor, labels: Tensor) -> Tensor:
        """The value of each form on ``(n, B, C)`` scores, or of one on ``(B, C)``; labels are ``(n B, 1)``."""
        with torch.no_grad():
            flat = scores.detach().reshape(len(labels), -1)
            each, gradient = values_and_gradients(flat, labels, *self._read(forms, flat, labels))
            rows = scores.shape[-2]
            values, gradient = each.view(scores.shape[:-1]).mean(-1), gradient.div_(rows).view(scores.shape)
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return values
        counts = self.counts.clone()

        def again(scores: Tensor, values: Sequence[Tensor]) -> Tensor:
            batches = scores.view(len(forms), rows, -1)
            found = self._stacked(forms, batches, labels.view(batches.shape[:2]), counts)
            return torch.autograd.grad(found.sum(), scores, create_graph=True)[0]

        learned = [p for p in _parameters_of(forms) if p.numel()]
        return cast(Tensor, GivenGradient.apply(values, gradient, again, scores, *learned))

    def _read(
        self, forms: Sequence[Form], scores: Tensor, labels: Tensor
    ) -> tuple[dict[str, Number], Tensor | None, Tensor | None]:
        """Knobs, the logs of class rates and those of the rows' weights, as :func:`values_and_gradients` takes them."""
        rows = len(labels) // len(forms)
        knobs = {name: knob_of([getattr(form, name) for form in forms], rows, scores.dtype) for name in self.turns}
        turned = {name: knob for name, knob in knobs.items() if knob is not None}
        balance = turned.pop("balance", None)
        rates = None if balance is None and "adjustment" not in turned else self._log_rates(False, scores)
        own = [form.get_parameter("log_weights").to(scores.dtype) for form in forms] if self.class_weights else []
        return turned, rates, log_weights_of_rows(labels, rates, balance, own)

    def _stacked(self, forms: Sequence[Form], scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """``(n,)``: :meth:`of_checked` of n forms and batches by autograd."""
        names = [name for name, _ in self.named_parameters()]
        knobs = {name: torch.stack([form.get_parameter(name).detach() for form in forms]) for name in names}
        core = _Checked(self)

        def of_one(knobs: dict[str, Tensor], scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
            inside = {f"form.{name}": value for name, value in (*knobs.items(), ("counts", counts))}
            return functional_call(core, inside, (scores, targets))

        return vmap(of_one, in_dims=(0, 0, 0, None))(knobs, scores, targets, counts)

    def of_checked(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The value of a batch as :func:`labelled` returns it: no check, no count, so that vmap can stack it."""
        elementwise = scores.shape == targets.shape
        scores = self._adjusted(scores, elementwise)
        if elementwise:
            logs = torch.stack([nn.functional.logsigmoid(-scores), nn.functional.logsigmoid(scores)], -1)
            labels = targets.long()[..., None]
        else:
            logs, labels = scores.log_softmax(-1), targets[:, None]
        each = self._bent(logs.gather(-1, labels)[..., 0])
        if "smoothing" in self.turns:
            each = (1 - self.smoothing) * each + self.smoothing * self._bent(logs).mean(-1)
        log_weights = self._log_weights(scores, logs, labels, elementwise)
        if log_weights:
            each = torch.stack(log_weights).sum(0).exp() * each
        return each.mean()

    def knobs(self) -> Mapping[str, Knob]:
        """Those of ``turns``, and the class weights."""
        found = {name: Knob(getattr(self, name), *RANGES[name]) for name in self.turns}
        for c, weight in enumerate(self.log_weights.detach()):
            found[f"weight[{c}]"] = Knob(weight, -_LOG_WEIGHT, _LOG_WEIGHT, classes=(c, c))
        return found

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {"num_outputs": self.num_outputs, "turns": list(self.turns), "class_weights": self.class_weights}

    def _adjusted(self, scores: Tensor, elementwise: bool) -> Tensor:
        if "adjustment" not in self.turns:
            return scores
        log_rates = self._log_rates(elementwise, scores)
        return scores + self.adjustment * (log_rates[..., 1] - log_rates[..., 0] if elementwise else log_rates)

    def _log_weights(self, scores: Tensor, logs: Tensor, labels: Tensor, elementwise: bool) -> list[Tensor]:
        """The logs of the factors each item has: its class's, its own weight, and the focus."""
        found = []
        if "balance" in self.turns:
            by_rate = log_balance(self._log_rates(elementwise, scores), self.balance)
            found.append(by_rate.expand(logs.shape).gather(-1, labels)[..., 0])
        if self.class_weights:
            found.append(self.log_weights.to(scores.dtype)[labels[:, 0]])
        if "focus" in self.turns:
            if elementwise:
                log_wrong = logs.gather(-1, 1 - labels)[..., 0]
            else:
                others = scores.scatter(1, labels, -torch.inf).logsumexp(1)
                log_wrong = nn.functional.logsigmoid(others - scores.gather(1, labels)[:, 0])
            found.append(self.focus * log_wrong)
        return found

    def _bent(self, logs: Tensor) -> Tensor:
        """g_q of log-probabilities; exactly -log p, with a finite slope in q, at q = 0."""
        if "exponent" not in self.turns:
            return -logs
        x = self.exponent * logs
        near = x.abs() < 1e-3
        far = torch.where(near, torch.ones_like(x), x)
        return -logs * torch.where(near, 1 + x / 2 + x.square() / 6, torch.expm1(far) / far)

    def _log_rates(self, elementwise: bool, like: Tensor) -> Tensor:
        """``(C,)``, or ``(2,)`` or ``(C, 2)`` of the negatives and the positives."""
        counts = self.counts if len(self.counts) else self.counts.new_ones(max(1, like.shape[-1]), 2)
        if not elementwise:
            counts = counts[:, 1]
        elif like.ndim == 1:
            counts = counts[0]
        counts = counts.to(like.dtype)
        return (counts / counts.sum(-1, keepdim=True)).log()

    @torch.no_grad()
    def count(self, scores: Tensor, targets: Tensor) -> None:
        """Add a batch to the class rates, where a knob reads them: how many items are not, and are, of each class."""
        if "balance" not in self.turns and "adjustment" not in self.turns:
            return
        if scores.shape == targets.shape:
            positives = (targets > 0).reshape(len(targets), -1).sum(0)
        else:
            positives = torch.bincount(targets, minlength=scores.shape[1])
        if not len(self.counts):
            self.counts = self.counts.new_ones(len(positives), 2)
        positives = positives.long()
        self.counts.add_(torch.stack([len(targets) - positives, positives], -1))

    def _check(self, scores: Tensor, elementwise: bool) -> None:
        width = scores.shape[1] if scores.ndim > 1 else 1
        known = self.num_outputs or len(self.counts) or width
        if width != known:
            raise MetricgradError(
                f"scores have {width} outputs, and this form was made for num_outputs={known}; make it with "
                f"num_outputs={width}, or with num_outputs=None, which takes the first batch's"
            )
        if elementwise and self.class_weights:
            raise MetricgradError("class_weights is for (N, C) scores with (N,) classes; turn 'balance' instead")

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        saved = state_dict.get(prefix + "counts")
        if self.num_outputs is None and saved is not None:
            self.counts = torch.ones_like(saved, device=self.counts.device)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _is_plain(forms: Sequence[Form], scores: Tensor) -> bool:
    """Whether nothing but the scores is differentiated, on a CPU, where knobs are read without waiting."""
    learned = any(p.requires_grad for p in _parameters_of(forms))
    return not learned and scores.device.type == "cpu" and not transformed(scores)


def _parameters_of(forms: Sequence[Form]) -> list[Tensor]:
    """Those of forms without parts; ``form.parameters()`` takes as long as the loss of a small batch."""
    return [p for form in forms for p in form._parameters.values() if p is not None]


class _Checked(nn.Module):
    """The value of a checked batch as a forward, which is what functional_call calls."""

    def __init__(self, form: ClassificationFamily) -> None:
        super().__init__()
        self.form = form

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.form.of_checked(scores, targets)
