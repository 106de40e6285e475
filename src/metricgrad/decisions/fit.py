"""``fit_decision``: which decision a metric wants on validation data, guarded against those that only fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from metricgrad.decisions.base import Decision, Findings
from metricgrad.decisions.cross_fitting import FEWEST_ROWS, Tried, held_out, tried
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.kinds import BUILT_IN, DECISIONS
from metricgrad.decisions.labels import is_ordinal
from metricgrad.decisions.operating_point import AtPrecision, precision_and_recall, yes_of
from metricgrad.decisions.rows import ValidationRows
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric

_MOST_CLASSES = 100


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
    ``"auto"`` each candidate that the metric and the shapes allow is fitted on four fifths of the rows and judged on
    the rest, five times over; the joined decisions are scored by the metric once. The best is taken where its gain over
    no decision is above one standard error (a jackknife over tenths of the rows); within one standard error of the best
    the simplest is.

    Metrics that only read the order of scores (AUROC, average precision) need none, and get
    :class:`~metricgrad.decisions.Identity`; recall at a precision gets the cut that reaches it.

    Args:
        metric: anything :func:`metricgrad.as_metric` takes.
        scores: raw logits: ``(N,)`` binary, ``(N, C)`` multilabel or of classes, or with further axes. Pixels or
            tokens of classes are rows, of which at most 200,000 are drawn; those of one item are held out together.
        targets: ``(N,)`` or ``(N, C)``, as the metric takes them.
        method: ``"auto"``; ``"identity"``; or one kind, fitted on all rows without a guard: ``"threshold"``,
            ``"label_thresholds"``, ``"offsets"``, ``"ordinal_cuts"``, ``"plug_in"``, ``"top_k"``, ``"masks"``,
            ``"at_precision"``, ``"at_recall"``, or that of a class of your own (:func:`metricgrad.decisions.register`).
        seed: of the division into fifths and tenths.
        context: what the metric takes beside: ``sample_weight``, ``groups``, ``mask``.

    Returns:
        A :class:`~metricgrad.decisions.base.Decision`; ``.report()`` says what was compared.

    Raises:
        MetricgradError: for bad input, an unknown method, or one that does not serve these shapes.

    Cost:
        Six fits of each candidate. A foreign metric is called some hundred times a candidate, C times as often for
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
    rows = ValidationRows.of(judged_by, scores, targets, context, seed)
    read = replace(judged_by.class_targets, class_dim=-1, ignore_index=None)
    decision = _fitted(judged_by._copy(class_targets=read), rows, method, seed)
    decision.class_dim = rows.class_dim
    return decision


def _fitted(metric: Metric, rows: ValidationRows, method: str, seed: int) -> Decision:
    if method != "auto":
        return _one(method, metric, rows, seed)
    scores, targets, context = rows.scores, rows.targets, rows.context
    plain = Identity.fit(metric, scores, targets)
    raw = float(metric(scores, targets, **context))
    kinds, why = candidates(metric, scores, targets)
    if kinds == ["at_precision"]:
        return _operating_point(metric, rows, seed)
    if kinds and rows.count < FEWEST_ROWS:
        items = "rows" if rows.items is None else "images or sentences"
        why = f"{rows.count} {items} are too few to compare any; give {FEWEST_ROWS} or more"
    if why:
        plain.findings = Findings(f"no decision: {why}", raw, raw)
        return plain
    folds = rows.folds(seed)
    found = [tried(DECISIONS[kind], metric, scores, targets, folds, context) for kind in kinds]
    best = _chosen(found)
    decision = plain if best is None else DECISIONS[best.kind].fit(metric, scores, targets, **context)
    decision.findings = Findings(_words(metric, found, best, raw, len(targets)), best.value if best else raw, raw)
    return decision


def candidates(metric: Metric, scores: Tensor, targets: Tensor) -> tuple[list[str], str]:
    """The kinds that may serve a metric on scores of this shape, beside none; where there are none, why.

    Args:
        metric: what judges.
        scores: in canonical shapes.
        targets: likewise.
    """
    if why := no_decision_for(metric):
        return [], why
    if metric.reads != "labels":
        return (["at_precision"], "") if scores.ndim == 1 else ([], f"{metric.name} of several columns has no one cut")
    if scores.shape == targets.shape:
        if scores.ndim > 2:
            return ["threshold", "masks"], ""
        labels = scores.ndim == 2 and scores.shape[1] > 1
        return (["threshold", "top_k", "label_thresholds"] if labels else ["threshold"]), ""
    classes = scores.shape[-1]
    if scores.ndim != 2 or classes > _MOST_CLASSES:
        return [], f"it takes scores (N, C) of at most {_MOST_CLASSES} classes, these are {tuple(scores.shape)}"
    ordinal = is_ordinal(metric, scores.argmax(1), targets, classes)
    return ["offsets", *(["ordinal_cuts"] if ordinal else []), "plug_in"], ""


def no_decision_for(metric: Metric) -> str:
    """Why no decision changes this metric for the better, whatever the scores; an empty string where one may."""
    if metric.name.partition(":")[0] == "recall_at_precision":
        return ""
    if metric.reads != "labels" or not metric.layout.of_decisions:
        return f"metric {metric.name!r} reads {metric.reads}, which no cut changes for the better"
    return ""


def check_method(method: str, scores: Tensor, targets: Tensor) -> None:
    """Refuse a kind that is unknown, or that does not serve scores and targets of these shapes.

    Args:
        method: what :func:`fit_decision` is asked for.
        scores: ``(N,)``, ``(N, 1)`` or ``(N, C)``.
        targets: ``(N,)`` or ``(N, C)``.

    Raises:
        MetricgradError: naming those that do.
    """
    if method == "auto":
        return
    if method not in DECISIONS:
        raise MetricgradError(f"method is {method!r}; expected 'auto' or one of {', '.join(map(repr, DECISIONS))}")
    allowed = ("identity", "offsets", "ordinal_cuts", "plug_in") if _are_of_classes(scores, targets) else (
        ("identity", "threshold", "at_precision", "at_recall") if targets.ndim == 1
        else ("identity", "threshold", "top_k", "label_thresholds") if targets.ndim == 2
        else ("identity", "threshold", "masks")
    )  # fmt: skip
    if method in BUILT_IN and method not in allowed:
        raise MetricgradError(
            f"method {method!r} does not serve scores {tuple(scores.shape)} with targets {tuple(targets.shape)}; "
            f"expected one of {', '.join(map(repr, allowed))}"
        )


def _one(method: str, metric: Metric, rows: ValidationRows, seed: int) -> Decision:
    scores, targets, context = rows.scores, rows.targets, rows.context
    check_method(method, scores, targets)
    cls = DECISIONS[method]
    decision = cls.fit(metric, scores, targets, **context)
    _check_reading(decision, of_classes=_are_of_classes(scores, targets))
    value = raw = float(metric(scores, targets, **context))
    how = f"{method}, as asked for"
    if method != "identity" and rows.count >= FEWEST_ROWS and metric.reads == "labels":
        value = tried(cls, metric, scores, targets, rows.folds(seed), context).value
        how += f"; {metric.name} of rows it was not fitted on {value:.4f}, without it {raw:.4f}"
    elif method != "identity":
        value = float(metric(decision(scores), targets, **context))
        how += f"; {metric.name} of the rows it was fitted on {value:.4f}, without it {raw:.4f}"
    decision.findings = Findings(f"{how}. Fitted on {len(targets)} rows, compared with no other kind", value, raw)
    return decision


def _are_of_classes(scores: Tensor, targets: Tensor) -> bool:
    return scores.ndim == targets.ndim + 1 and scores.shape[-1] > 1


def _check_reading(decision: Decision, *, of_classes: bool) -> None:
    """Refuse a decision of one's own that would predict a table of zeros and ones where rows have a class."""
    if decision.reading != "value" and (decision.reading == "argmax") != of_classes:
        wanted, what = ("argmax", "of classes") if of_classes else ("threshold", "of yes or no")
        raise MetricgradError(
            f"{type(decision).__name__} has reading = {decision.reading!r}, and these scores are {what}; write "
            f"reading = {wanted!r} into the class"
        )


def _chosen(found: list[Tried]) -> Tried | None:
    """The simplest within one standard error of the best, if that gains more than its own standard error."""
    able = [t for t in found if t.gain > t.error]  # false for NaN
    if not able:
        return None
    best = max(able, key=lambda t: t.gain)
    return next(t for t in able if t.gain >= best.gain - best.error)


def _operating_point(metric: Metric, rows: ValidationRows, seed: int) -> Decision:
    scores, targets, context = rows.scores, rows.targets, rows.context
    decision = AtPrecision.fit(metric, scores, targets, **context)
    decided = decision(scores)
    if int(yes_of(metric, scores, targets)[1].sum()) > 1:  # else parts without positives have nothing to cut at
        decided = held_out(AtPrecision, metric, scores, targets, rows.folds(seed), context)
    weight = context.get("sample_weight")
    precision, recall = precision_and_recall(*yes_of(metric, decided, targets), weight)
    here = precision_and_recall(*yes_of(metric, decision(scores), targets), weight)
    short = "" if here[0] >= decision.at else f"; no cut reaches precision {decision.at:g}, this one comes nearest"
    value = float(metric(scores, targets, **context))
    words = (
        f"at_precision: positive above {float(decision.threshold):.4g}, where {len(targets)} validation rows have "
        f"precision {here[0]:.3f} and recall {here[1]:.3f}; held out, over five parts: precision {precision:.3f}, "
        f"recall {recall:.3f}{short}. The metric itself only reads the order of scores and stays as it is"
    )
    decision.findings = Findings(words, value, value)
    return decision


def _words(metric: Metric, found: list[Tried], best: Tried | None, raw: float, rows: int) -> str:
    lines = [f"{metric.name} of {rows} validation rows, each candidate judged on fifths it was not fitted on:"]
    lines.append(f"  none              {raw:.4f}")
    lines += [f"  {t.kind:17s} {t.value:.4f}  gain {t.gain:+.4f}, standard error {t.error:.4f}" for t in found]
    if best is None:
        lines.append("none is taken: no gain is above its standard error")
    else:
        lines.append(f"{best.kind} is taken: the simplest within a standard error of the best gain")
    return "\n".join(lines)
