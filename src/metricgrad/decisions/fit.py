"""``fit_decision``: which decision a metric wants on validation data, guarded against those that only fit it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.labels import is_ordinal
from metricgrad.decisions.offsets import Offsets
from metricgrad.decisions.operating_point import AtPrecision, AtRecall, precision_and_recall
from metricgrad.decisions.ordinal_cuts import OrdinalCuts
from metricgrad.decisions.plug_in import PlugIn
from metricgrad.decisions.threshold import LabelThresholds, Threshold
from metricgrad.decisions.top_k import TopK
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric

FOLDS = 10
_FEWEST_ROWS = 20
_MOST_CLASSES = 100

#: Every decision by its name, the simplest first: among equals the earlier one stays.
DECISIONS: dict[str, type[Decision]] = {
    cls.kind: cls
    for cls in (
        Identity, Threshold, AtPrecision, AtRecall, TopK, LabelThresholds, Offsets, OrdinalCuts, PlugIn
    )
}  # fmt: skip


@dataclass(frozen=True)
class _Tried:
    """One candidate: its cross-validated value and gain over no decision, signed so that more is better."""

    kind: str
    value: float
    gain: float
    error: float


def fit_decision(
    metric: str | Metric | Callable[..., Any],
    scores: Tensor,
    targets: Tensor,
    *,
    method: str = "auto",
    seed: int = 0,
    **context: Tensor | None,
) -> Decision:
    """The decision to deliver a model with: ``metric(decision(scores), targets)`` on new data.

    Fit it on validation scores, never on those of the training or the test part, and for every loss alike. With
    ``"auto"`` each candidate that the metric and the shapes allow is fitted on nine tenths of the rows and judged on
    the rest, ten times over; the joined decisions are scored by the metric once. The best is taken where its gain over
    no decision is above one standard error (a jackknife over the tenths); within one standard error of the best the
    simplest is.

    Metrics that only read the order of scores (AUROC, average precision) need none, and get
    :class:`~metricgrad.decisions.Identity`; recall at a precision gets the cut that reaches it.

    Args:
        metric: anything :func:`metricgrad.as_metric` takes.
        scores: raw logits: ``(N,)`` binary, ``(N, C)`` multilabel or of classes.
        targets: ``(N,)`` or ``(N, C)``, as the metric takes them.
        method: ``"auto"``; ``"identity"``; or one kind, fitted on all rows without a guard: ``"threshold"``,
            ``"label_thresholds"``, ``"offsets"``, ``"ordinal_cuts"``, ``"plug_in"``, ``"top_k"``, ``"at_precision"``,
            ``"at_recall"``.
        seed: of the division into tenths.
        context: what the metric takes beside: ``sample_weight``, ``groups``, ``mask``.

    Returns:
        A :class:`~metricgrad.decisions.base.Decision`; ``.report()`` says what was compared.

    Raises:
        MetricgradError: for bad input, an unknown method, or one that does not serve these shapes.

    Cost:
        Eleven fits of each candidate. A foreign metric is called some hundred times a candidate, C times as often for
        offsets of C classes.

    Example:
        >>> import torch, metricgrad as mg
        >>> g = torch.Generator().manual_seed(0)
        >>> targets = (torch.rand(400, generator=g) < 0.2).long()
        >>> scores = torch.randn(400, generator=g) + 2 * targets - 3
        >>> mg.fit_decision("f1", scores, targets).kind
        'threshold'
    """
    judged_by = as_metric(metric)
    scores, targets, context = _checked(judged_by, scores, targets, context)
    plain = Identity.fit(judged_by, scores, targets)
    if method != "auto":
        return _one(method, judged_by, scores, targets, context)
    kinds, why = candidates(judged_by, scores, targets)
    if not kinds:
        plain.findings = f"no decision: {why}"
        return plain
    if kinds == ["at_precision"]:
        return _operating_point(judged_by, scores, targets)
    if len(targets) < _FEWEST_ROWS:
        plain.findings = f"no decision: {len(targets)} rows are too few to compare any; give {_FEWEST_ROWS} or more"
        return plain
    folds = _folds(targets, seed)
    tried = [_tried(kind, judged_by, scores, targets, folds, plain, context) for kind in kinds]
    found = _chosen(tried)
    decision = plain if found is None else DECISIONS[found.kind].fit(judged_by, scores, targets, **context)
    decision.findings = _words(judged_by, tried, found, plain, scores, targets, context)
    return decision


def candidates(metric: Metric, scores: Tensor, targets: Tensor) -> tuple[list[str], str]:
    """The kinds that may serve a metric on scores of this shape, beside none; where there are none, why.

    Args:
        metric: what judges.
        scores: in canonical shapes.
        targets: likewise.
    """
    if metric.name.partition(":")[0] == "recall_at_precision" and scores.ndim == 1:
        return ["at_precision"], ""
    if metric.reads != "labels" or not metric.layout.of_decisions:
        return [], f"metric {metric.name!r} reads {metric.reads}, which no cut changes for the better"
    if scores.shape == targets.shape:
        labels = scores.ndim == 2 and scores.shape[1] > 1
        return (["threshold", "top_k", "label_thresholds"] if labels else ["threshold"]), ""
    classes = scores.shape[-1]
    if scores.ndim != 2 or classes > _MOST_CLASSES:
        return [], f"it takes scores (N, C) of at most {_MOST_CLASSES} classes, these are {tuple(scores.shape)}"
    ordinal = is_ordinal(metric, scores.argmax(1), targets, classes)
    return ["offsets", *(["ordinal_cuts"] if ordinal else []), "plug_in"], ""


def build(kind: str, config: dict[str, Any]) -> Decision:
    """A decision from what a file says of it: its kind and :meth:`~metricgrad.decisions.base.Decision.config`.

    Raises:
        MetricgradError: for an unknown kind, or a configuration that does not fit it.
    """
    if kind not in DECISIONS:
        raise MetricgradError(f"unknown decision {kind!r}; known are {', '.join(DECISIONS)}")
    try:
        return DECISIONS[kind](**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetricgradError(f"decision {kind!r} cannot be made from {config!r}: {error}") from error


def _checked(
    metric: Metric, scores: Tensor, targets: Tensor, context: dict[str, Tensor | None]
) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
    for name, value in (("scores", scores), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise MetricgradError(f"{name} must be a tensor, got {type(value).__name__}: pass torch.as_tensor({name})")
    metric(scores, targets, **context)  # shapes, context and what it refuses
    scores = scores.detach()
    if scores.ndim == targets.ndim + 1 and scores.shape[-1] == 1:
        scores = scores[..., 0]
    if not bool(torch.isfinite(scores).all()):
        raise MetricgradError("scores hold NaN or infinity; a decision is fitted on finite validation scores")
    return scores, targets.long() if not targets.is_floating_point() else targets, context


def _one(method: str, metric: Metric, scores: Tensor, targets: Tensor, context: dict[str, Tensor | None]) -> Decision:
    if method not in DECISIONS:
        raise MetricgradError(f"method is {method!r}; expected 'auto' or one of {', '.join(map(repr, DECISIONS))}")
    of_classes = scores.ndim == targets.ndim + 1
    allowed = ("identity", "offsets", "ordinal_cuts", "plug_in") if of_classes else (
        ("identity", "threshold", "at_precision", "at_recall") if scores.ndim == 1
        else ("identity", "threshold", "top_k", "label_thresholds")
    )  # fmt: skip
    if method not in allowed:
        raise MetricgradError(
            f"method {method!r} does not serve scores {tuple(scores.shape)} with targets {tuple(targets.shape)}; "
            f"expected one of {', '.join(map(repr, allowed))}"
        )
    decision = DECISIONS[method].fit(metric, scores, targets, **context)
    decision.findings = f"{method}, as asked for; fitted on {len(targets)} rows, compared with nothing"
    return decision


def _folds(targets: Tensor, seed: int) -> Tensor:
    """``(N,)`` fold of each row: shuffled, with every target spread evenly where targets are one label a row."""
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=g).to(targets.device)
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    folds = torch.empty(len(targets), dtype=torch.long, device=targets.device)
    folds[order] = torch.arange(len(targets), device=targets.device) % FOLDS
    return folds


def _tried(
    kind: str, metric: Metric, scores: Tensor, targets: Tensor, folds: Tensor, plain: Decision,
    context: dict[str, Tensor | None],
) -> _Tried:  # fmt: skip
    decided = torch.empty_like(scores)
    for fold in range(FOLDS):
        out = folds == fold
        found = DECISIONS[kind].fit(metric, scores[~out], targets[~out], **_rows(context, ~out))
        decided[out] = found(scores[out])
    sign = 1.0 if metric.higher_is_better else -1.0

    def gain(rows: Tensor) -> float:
        given = _rows(context, rows)
        values = metric.over(torch.stack([decided[rows], plain(scores[rows])]), targets[rows], **given)
        return sign * float(values[0] - values[1])

    every = torch.ones_like(folds, dtype=torch.bool)
    without = [gain(folds != fold) for fold in range(FOLDS)]
    mean = math.fsum(without) / FOLDS
    error = math.sqrt((FOLDS - 1) / FOLDS * math.fsum((v - mean) ** 2 for v in without))
    return _Tried(kind, sign * float(metric(decided, targets, **context)), gain(every), error)


def _chosen(tried: list[_Tried]) -> _Tried | None:
    """The simplest within one standard error of the best, if that gains more than its own standard error."""
    able = [t for t in tried if t.gain > t.error]  # false for NaN
    if not able:
        return None
    best = max(able, key=lambda t: t.gain)
    return next(t for t in able if t.gain >= best.gain - best.error)


def _rows(context: dict[str, Tensor | None], rows: Tensor) -> dict[str, Tensor | None]:
    return {name: value[rows] if isinstance(value, Tensor) else value for name, value in context.items()}


def _operating_point(metric: Metric, scores: Tensor, targets: Tensor) -> Decision:
    decision = AtPrecision.fit(metric, scores, targets)
    folds, decided = _folds(targets, 0), torch.empty_like(scores)
    for fold in range(FOLDS):
        out = folds == fold
        if bool(out.any()) and bool((targets[~out] > 0).any()):
            decided[out] = AtPrecision.fit(metric, scores[~out], targets[~out])(scores[out])
    precision, recall = precision_and_recall(decided, targets)
    here = precision_and_recall(decision(scores), targets)
    short = "" if here[0] >= decision.at else f"; no cut reaches precision {decision.at:g}, this one comes nearest"
    decision.findings = (
        f"at_precision: positive above {float(decision.threshold):.4g}, where {len(targets)} validation rows have "
        f"precision {here[0]:.3f} and recall {here[1]:.3f}; held out, over ten parts: precision {precision:.3f}, "
        f"recall {recall:.3f}{short}. The metric itself only reads the order of scores and stays as it is"
    )
    return decision


def _words(
    metric: Metric, tried: list[_Tried], found: _Tried | None, plain: Decision, scores: Tensor, targets: Tensor,
    context: dict[str, Tensor | None],
) -> str:  # fmt: skip
    sign = 1.0 if metric.higher_is_better else -1.0
    raw = float(metric(plain(scores), targets, **context))
    lines = [f"{metric.name} of {len(targets)} validation rows, each candidate judged on tenths it was not fitted on:"]
    lines.append(f"  none              {raw:.4f}")
    lines += [f"  {t.kind:17s} {sign * t.value:.4f}  gain {t.gain:+.4f}, standard error {t.error:.4f}" for t in tried]
    if found is None:
        lines.append("none is taken: no gain is above its standard error")
    else:
        lines.append(f"{found.kind} is taken: the simplest within a standard error of the best gain")
    return "\n".join(lines)
