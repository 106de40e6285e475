"""AdaLFL's form: a small network of (target, prediction), averaged over the outputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.batches import checked_whole, labelled, mask_of
from metricgrad.losses.networks.neural_tangent import Along
from metricgrad.losses.registry import PROBLEMS, Problem
from metricgrad.metrics.decoding import canonical, is_binary
from metricgrad.on_host import OnHost
from metricgrad.precision import wide_dtype

_WIDTH = 40
_LAYERS = 2
_SHARPEST = 0.1
_LINEAR_FROM = 50.0  # beyond it a float64 softplus is its argument


class NeuralLoss(Form):
    r"""A learned function of a target and its prediction.

    .. math:: M_\phi(y, s) = \frac{1}{N C} \sum_{i, c} \ell_\phi(y_{ic}, p_{ic})

    with p the softmax of a row's scores against one-hot targets (classification), the sigmoid of a score against 0 or 1
    (binary, multilabel), or the raw score against the value (regression). :math:`\ell_\phi` has two hidden layers of 40
    units with the smooth leaky ReLU :math:`\frac1\beta \log(e^{\beta x} + 1)(1 - \gamma) + \gamma x`, whose beta and
    gamma are parameters too. Every output goes through the same network, so permuting classes keeps the value.

    A fresh network is random: it may well prefer wrong answers. Give it :meth:`metricgrad.Loss.offline_start`, or use
    :class:`metricgrad.losses.composite.residual.Residual`, which starts as a loss you know. The value can be negative,
    and its scale changes as it learns: watch the gradient norm and the metric, not the loss.

    Args:
        num_outputs: columns of the scores, checked where given.
        kind: ``"classification"`` (one class of several), ``"binary"``, ``"multilabel"``, ``"regression"``, or
            ``"auto"``: by the first batch, classification for scores with one more axis than the targets, otherwise
            binary or multilabel where all targets are 0 or 1, otherwise regression.
        output: ``"none"`` or ``"softplus"`` (never negative; slower to learn).
        start: the last layer's weights are multiplied by it; near zero for a correction to another loss.
        seed: of the first weights.

    Cost: 1,700 multiplications and some 500 bytes an output, all outputs in one call.

    Raises:
        MetricgradError: for settings out of range; when called with another number of outputs, targets that are not
            of the kind, or a context other than ``mask``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form = NeuralLoss(num_outputs=3)
        >>> scores, targets = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
        >>> turned = form(scores[:, [2, 0, 1]], torch.tensor([1, 0, 2, 2]), call=CallContext(0, 0))
        >>> bool(torch.isclose(form(scores, targets, call=CallContext(0, 0)), turned))
        True

    References:
        C. Raymond, Q. Chen, B. Xue and M. Zhang, "Meta-Learning Adaptive Loss Functions", TMLR 2025, sections 3 and 4.
        Ours: beta is kept at 0.1 or more, where the published network can divide by zero.
    """

    kind: ClassVar[str] = "neural"
    settled: Tensor

    def __init__(
        self,
        num_outputs: int | None = None,
        kind: Problem = "classification",
        *,
        output: Literal["none", "softplus"] = "none",
        start: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in PROBLEMS:
            raise MetricgradError(f"kind is {kind!r}; expected one of {', '.join(PROBLEMS)}")
        if output not in ("none", "softplus"):
            raise MetricgradError(f"output is {output!r}; expected 'none' or 'softplus'")
        if num_outputs is not None and (not isinstance(num_outputs, int) or num_outputs < 1):
            aim = "; a metric to learn toward is objective=mg.UniLoss(metric)" * isinstance(num_outputs, str)
            raise MetricgradError(
                f"num_outputs is {num_outputs!r:.60}; expected the number of score columns, 1 or more{aim}"
            )
        self.num_outputs, self.problem, self.output, self.start, self.seed = num_outputs, kind, output, start, seed
        widths = [2, *[_WIDTH] * _LAYERS, 1]
        # torch would draw weights from the global generator, which is the training's own
        self.layers = nn.ModuleList(
            skip_init(nn.Linear, a, b, device=torch.get_default_device()) for a, b in itertools.pairwise(widths)
        )
        self.beta = nn.Parameter(torch.full((_LAYERS,), 10.0))
        self.gamma = nn.Parameter(torch.full((_LAYERS,), 0.01))
        self.register_buffer("settled", torch.tensor(PROBLEMS.index(kind)))
        self._settled = OnHost(int)
        self.reset(seed)

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
        saved = state_dict.get(prefix + "settled")
        if saved is not None and not bool(((saved >= 0) & (saved < len(PROBLEMS))).all()):
            error_msgs.append(f"{prefix}settled is none of {len(PROBLEMS)} kinds of problems.")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def reset(self, seed: int) -> None:
        """Draw the weights anew; nothing but the seed decides them."""
        generator = torch.Generator().manual_seed(checked_whole("seed", seed))
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                bound = 1 / math.sqrt(layer.in_features)
                for part in (layer.weight, layer.bias):
                    part.copy_((torch.rand(part.shape, generator=generator) * 2 - 1) * bound)
            for part in self.layers[-1].parameters():
                part.mul_(self.start)
            self.beta.fill_(10.0)
            self.gamma.fill_(0.01)
        self.requires_grad_(False)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d; zero with a zero gradient for an empty batch."""
        target, logits, problem = self._read(scores, targets, mask_of(context, type(self).__name__))
        if not target.numel():
            return (logits * 0).sum()
        return self.each(target, _predicted(logits, problem)).mean()

    def each(self, target: Tensor, prediction: Tensor) -> Tensor:
        r"""The value :math:`\ell_\phi` of each pair, in the shape of both."""
        x = torch.stack([target, prediction], -1)
        for i, (weight, bias) in enumerate(self._layers(x.dtype)):
            x = nn.functional.linear(x, weight, bias)
            if i < _LAYERS:
                x = self._smooth(i, x)
        value = x[..., 0]
        return nn.functional.softplus(value, threshold=_LINEAR_FROM) if self.output == "softplus" else value

    def directional_derivative(
        self, scores: Tensor, targets: Tensor, tangent: Tensor, *, call: CallContext, **context: Tensor | None
    ) -> Tensor | None:
        """Tangents carried through the layers by hand: a fifth of the time of a double backward."""
        mask = mask_of(context, type(self).__name__)
        target, logits, problem = self._read(scores, targets, mask)
        direction = (
            tangent.to(logits.dtype).reshape(logits.shape) if mask is None else self._read(tangent, targets, mask)[1]
        )
        if not target.numel():
            return None
        prediction = _predicted(logits, problem)
        if problem == "classification":
            moved = prediction * (direction - (prediction * direction).sum(-1, keepdim=True))
        elif problem == "regression":
            moved = direction
        else:
            moved = prediction * (1 - prediction) * direction
        layers = self._layers(prediction.dtype)
        pairs = torch.stack([target.flatten(), prediction.flatten()], -1)
        beta = self.beta.clamp(min=_SHARPEST).to(pairs.dtype)
        if self.output == "none":
            (w1, b1), (w2, b2), (w3, _) = layers
            gamma = self.gamma.to(pairs.dtype)
            return cast(Tensor, Along.apply(pairs, moved.flatten(), w1, b1, w2, b2, w3, beta, gamma))
        x = nn.functional.linear(pairs, *layers[0])
        v = moved.flatten()[:, None] * layers[0][0][:, 1]
        for i, (weight, bias) in enumerate(layers[1:]):
            bend = torch.lerp((beta[i] * x).sigmoid(), torch.ones_like(x), self.gamma[i].to(x.dtype))
            v = nn.functional.linear(v * bend, weight)
            x = nn.functional.linear(self._smooth(i, x), weight, bias)
        return (v * x.sigmoid()).mean()

    def _layers(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        return [(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in self.layers]  # type: ignore[union-attr]

    def _beta(self, i: int, x: Tensor) -> Tensor:
        return self.beta[i].clamp(min=_SHARPEST).to(x.dtype)

    def _smooth(self, i: int, x: Tensor) -> Tensor:
        """The smooth leaky ReLU of layer i."""
        # the same operations whether or not the parameters are being differentiated: Adam's first step would
        # magnify a difference in the last digit
        beta = self._beta(i, x)
        return torch.lerp(nn.functional.softplus(beta * x, threshold=_LINEAR_FROM) / beta, x, self.gamma[i].to(x))

    def _read(
        self, scores: Tensor, targets: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Problem]:  # fmt: skip
        """Targets as the network reads them, scores of their shape, and the kind of problem."""
        problem = self._problem(scores, targets, mask)
        self._check_outputs(scores)
        if problem == "regression":
            scores, targets = canonical(scores, targets, mask)
            if scores.shape != targets.shape:
                raise MetricgradError(
                    f"a regression needs scores and targets of one shape, got {tuple(scores.shape)} and "
                    f"{tuple(targets.shape)}; for classes build the loss with kind='classification'"
                )
            return targets.to(scores.dtype), scores, problem
        scores, targets = labelled(scores, targets, mask, pooled=True)
        elementwise = scores.shape == targets.shape
        if elementwise != (problem != "classification"):
            other = "binary' or 'multilabel" if elementwise else "classification"
            raise MetricgradError(
                f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)} do not fit kind={problem!r}; build "
                f"the loss with kind='{other}'"
            )
        if not elementwise:
            targets = nn.functional.one_hot(targets, scores.shape[1]).to(scores.dtype)
        return targets, scores, problem

    def _problem(self, scores: Tensor, targets: Tensor, mask: Tensor | None) -> Problem:
        if self.problem != "auto":
            return cast(Problem, self.problem)
        known = PROBLEMS[self._settled.of(self.settled)]
        if known != "auto":
            return known
        if scores.shape != targets.shape and scores.shape != (*targets.shape, 1):
            found: Problem = "classification"
        elif is_binary(targets if mask is None else canonical(scores, targets, mask)[1]):
            found = "binary" if targets.ndim == 1 else "multilabel"
        else:
            found = "regression"
        if targets.numel() > 1:
            self.settled.fill_(PROBLEMS.index(found))
        return found

    def _check_outputs(self, scores: Tensor) -> None:
        columns = scores.shape[-1] if scores.ndim > 1 else 1
        if self.num_outputs is not None and columns != self.num_outputs and scores.numel():
            raise MetricgradError(
                f"the scores have {columns} columns, the loss was built with num_outputs={self.num_outputs}; pass the "
                "number of columns, or leave num_outputs out"
            )

    def shape(self, points: int = 101) -> Mapping[str, Tensor]:
        """The learned loss as curves: for target 0 and 1, its value over predictions from 0 to 1 (regression: -3 to 3).

        Returns:
            ``prediction``, ``target_0`` and ``target_1``, each ``(points,)`` float64, detached.
        """
        low, high = (-3.0, 3.0) if PROBLEMS[int(self.settled)] == "regression" else (0.0, 1.0)
        prediction = torch.linspace(low, high, points, dtype=wide_dtype(self.beta.device), device=self.beta.device)
        with torch.no_grad():
            curves = {f"target_{y}": self.each(torch.full_like(prediction, y), prediction).cpu() for y in (0, 1)}
        return {"prediction": prediction.cpu(), **curves}

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        names = ("num_outputs", "output", "start", "seed")
        return {"kind": self.problem, **{name: getattr(self, name) for name in names}}


def _predicted(scores: Tensor, problem: Problem) -> Tensor:
    """The prediction the network reads."""
    if problem == "regression":
        return scores
    return scores.softmax(-1) if problem == "classification" else scores.sigmoid()
