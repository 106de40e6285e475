"""What a model said of the test part, counted: a confusion table, a curve with the decision on it, a calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.comparison.report.evidence_file import Calibration, Curve, Predictions
from metricgrad.decisions.base import Decision
from metricgrad.metrics.decoding import canonical
from metricgrad.metrics.metric import Metric
from metricgrad.training.outputs import output_of
from metricgrad.training.weighted_order import as_often

CURVE_POINTS = 200
SCATTER_POINTS = 1000
MOST_CLASSES = 200
BINS = 10


def predictions_of(
    metric: Metric, decision: Decision, scores: Tensor, targets: Tensor, weight: Tensor | None = None
) -> Predictions | None:
    """Plain numbers of one test part; no score of a single item is in them, but for a regression's.

    Args:
        metric: what the model is judged by, which says what the scores are of.
        decision: what it is delivered under.
        scores: raw logits, as :meth:`metricgrad.FitResult.scored` gives them.
        targets: theirs.
        weight: ``(N,)``, how much each row counts; None: as 1.

    Returns:
        ``of``: ``"classes"`` (one of several classes, or yes and no) with ``confusion`` under the decision and without
        (rows are true, columns said; sums of weights, where there are any, and then ``weighted``), ``calibration`` and,
        of two classes, ``curve``; or ``"values"`` with ``points``, of rows drawn as often as they weigh.
        None for what has no such picture: labels side by side, embeddings, points, words, spans, above 200 classes, and
        a metric with a ``pos_label``. What it ignores is left out.
    """
    output = output_of(metric, scores, targets)
    if output not in ("classes", "labels", "values"):
        return None
    if metric.class_targets.pos_label is not None:
        return None
    decided, _ = canonical(*metric.class_targets.pairs(decision(scores), targets))
    scores, targets, *weights = metric.class_targets.pairs(scores, targets, sample_weight=weight)
    scores, targets = canonical(scores, targets)
    if targets.ndim != 1 or not len(targets):
        return None
    if output == "values":
        pairs = torch.stack([targets.double(), scores.double()], 1)
        if weights:
            pairs = pairs[as_often(weights[0])]
        values: Predictions = {"of": "values", "points": _thinned(pairs, SCATTER_POINTS)}
        if weights:
            values["weighted"] = True
        return values
    classes = scores.shape[1] if scores.ndim == 2 else 2
    if classes > MOST_CLASSES:
        return None
    targets, weight = targets.long(), next((one.double() for one in weights), None)
    likely = scores.double().softmax(-1) if scores.ndim == 2 else scores.double().sigmoid()
    found: Predictions = {
        "of": "classes",
        "confusion": {
            "decided": _confusion(targets, _read(decided), classes, weight),
            "undecided": _confusion(targets, _read(scores), classes, weight),
        },
        "calibration": _calibration(likely, targets, weight),
    }
    counts = targets if weight is None else targets[weight > 0]
    if scores.ndim == 1 and 0 < int(counts.sum()) < len(counts):
        found["curve"] = _curve(scores, targets, weight)
    if weight is not None:
        found["weighted"] = True
    return found


def _read(scores: Tensor) -> Tensor:
    return scores.argmax(-1) if scores.ndim == 2 else (scores > 0).long()


def _confusion(targets: Tensor, said: Tensor, classes: int, weight: Tensor | None) -> list[list[float]]:
    return torch.bincount(targets * classes + said, weight, minlength=classes**2).reshape(classes, classes).tolist()


def _curve(scores: Tensor, targets: Tensor, weight: Tensor | None) -> Curve:
    """Recall and precision of every cut between unequal scores, from the highest cut on."""
    weight = torch.ones(len(scores), dtype=torch.float64) if weight is None else weight
    order = scores.argsort(descending=True, stable=True)
    ranked, found, above = scores[order], (targets * weight)[order].cumsum(0), weight[order].cumsum(0)
    ends = torch.cat([(ranked[1:] != ranked[:-1]).nonzero().squeeze(1), torch.tensor([len(ranked) - 1])])
    ends = ends[above[ends] > 0]
    precision, recall = found[ends] / above[ends], found[ends] / found[-1]
    recall, precision = zip(*_thinned(torch.stack([recall, precision], 1), CURVE_POINTS), strict=True)
    return {"recall": list(recall), "precision": list(precision)}


def _calibration(likely: Tensor, targets: Tensor, weight: Tensor | None) -> Calibration:
    """What was said with which probability, and how often it was so, in bins of equal width that hold anything.

    Of two classes the probability of the positive one, of more that of the likeliest.
    """
    if likely.ndim == 2:
        likely, top = likely.max(-1)
        right = (top == targets).double()
    else:
        right = targets.double()
    bins = (likely * BINS).long().clamp(max=BINS - 1)
    counts = torch.bincount(bins, weight, minlength=BINS)
    there, each = counts > 0, 1 if weight is None else weight
    sums = [torch.bincount(bins, values * each, minlength=BINS)[there] / counts[there] for values in (likely, right)]
    return {"said": sums[0].tolist(), "seen": sums[1].tolist(), "items": counts[there].tolist()}


def _thinned(points: Tensor, most: int) -> list[list[float]]:
    """At most so many rows, evenly taken, the first and the last among them."""
    if len(points) > most:
        points = points[torch.linspace(0, len(points) - 1, most).round().long()]
    return [[float(f"{value:.6g}") for value in row] for row in points.tolist()]
