"""Metrics of predicted labels: functions of the counts of each class.

Labels are ``(T, N)`` class indices or ``(T, N, C)`` zeros and ones. No metric here builds a ``(C, C)`` table: what it
needs of one is hits, targets and predictions of each class, so a thousand classes cost no more than the batch.

Conventions are scikit-learn's. Classes that are neither a target nor a prediction are left out of averages; a zero
divided by zero is 0 in F, Jaccard and MCC. ``f1``, ``balanced_accuracy``, ``mcc``, ``kappa`` and ``g_mean`` take the
entries of ``(N, C)`` multilabel targets as one list of yes-or-no decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.families.class_counts import (
    Counts,
    class_counts,
    correlation,
    counts_of_one,
    mean_over_last,
    pooled,
    ratio,
    yes_counts,
)  # fmt: skip
from metricgrad.metrics.families.class_sums import (
    ACCURACY,
    BALANCED_ACCURACY,
    G_MEAN,
    INTERSECTION_OVER_UNION,
    KAPPA,
    MCC,
    FScore,
    averaged,
)
from metricgrad.metrics.families.parts import Parts
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.of_labels import OfGrades
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

Average = Literal["binary", "macro", "micro", "weighted", "samples"]

_WEIGHTED = ("sample_weight",)
_BY_PART = ("sample_weight", "parts")
_POOLED = Structure("labels", "all")
_BY_ROW = Structure("labels", "row")
_BY_COLUMN = Structure("labels", "column")
_OF_AVERAGE = {"binary": _POOLED, "micro": _POOLED, "macro": _BY_COLUMN, "weighted": _BY_COLUMN, "samples": _BY_ROW}


def _by_average(average: str, **_: object) -> Structure:
    if average not in _OF_AVERAGE:
        raise MetricgradError(f"average={average!r}; expected one of {', '.join(_OF_AVERAGE)}")
    return _OF_AVERAGE[average]


def _averaged(
    score: Callable[[Counts], Tensor],
    labels: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    average: Average,
    parts: Tensor | None,
) -> Tensor:
    """Apply a function of counts to the counts that an average asks for."""
    if parts is not None and average != "binary":
        each = Parts.of(parts, weight)
        ones = torch.ones_like(targets) if weight is None or average == "samples" else weight
        hit, actual, predicted = (each.total(x * ones) for x in (labels * targets, targets.expand_as(labels), labels))
        counts = Counts(hit, actual, predicted, torch.ones_like(hit, dtype=torch.bool))
        if average in _OF_COUNTS:
            return _OF_COUNTS[average](score, counts)
        return (each.mean_of_rows if average == "samples" else each.mean)(score(counts))
    single = labels.ndim == 2
    if average == "samples":
        if single:
            raise MetricgradError(
                "average='samples' is for multilabel targets of shape (N, C), not for one label a row"
            )
        return mean_over_last(score(yes_counts(labels, targets, None, 2)), None if weight is None else wide(weight))
    if average == "binary" or (average == "macro" and single):
        labels, targets, weight = pooled(labels, targets, weight)
        counts = class_counts(labels, targets, weight)
        if average == "macro":
            return mean_over_last(score(counts), None, counts.seen)
        return score(counts_of_one(counts, 1))
    counts = class_counts(labels, targets, weight) if single else yes_counts(labels, targets, weight, 1)
    return _OF_COUNTS[average](score, counts) if average in _OF_COUNTS else score(counts).mean(-1)


def _micro(score: Callable[[Counts], Tensor], counts: Counts) -> Tensor:
    return score(counts.summed())


def _by_support(score: Callable[[Counts], Tensor], counts: Counts) -> Tensor:
    return ratio((score(counts) * counts.actual).sum(-1), counts.actual.sum(-1))


_OF_COUNTS = {"micro": _micro, "weighted": _by_support}


@register("accuracy", reads="labels", structure=_BY_ROW, context=_BY_PART, fast_path=ACCURACY)
def accuracy(
    labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """Share of right labels; of rows with all labels right for multilabel targets."""
    right = labels == targets
    if parts is not None:
        each = Parts.of(parts, sample_weight)
        return each.mean_of_rows(wide((each.total((~right).float()) == 0).float()))
    right = wide(right.all(-1).float() if right.ndim > 2 else right.float())
    return mean_over_last(right, None if sample_weight is None else wide(sample_weight))


def _fbeta_sums(beta: float, average: str) -> FastPath:
    return averaged(FScore(beta), average)


def _jaccard_sums(average: str) -> FastPath:
    return averaged(INTERSECTION_OVER_UNION, average)


def _grades(num_classes: int | None) -> FastPath:
    return OfGrades("ordered" if num_classes is None else "kept", classes=num_classes)


@register("fbeta", reads="labels", structure=_by_average, context=_BY_PART, fast_path=_fbeta_sums)
def fbeta(
    labels: Tensor,
    targets: Tensor,
    *,
    beta: float = 1.0,
    average: Average = "binary",
    sample_weight: Tensor | None = None,
    parts: Tensor | None = None,
) -> Tensor:
    """F score that weighs recall beta times as much as precision.

    ``average`` is ``"binary"`` (class 1), ``"macro"`` (mean over classes), ``"weighted"`` (the same, each class as
    often as it is a target), ``"micro"`` (all together) or ``"samples"`` (mean over the rows of multilabel targets).
    """
    return _averaged(FScore(beta), labels, targets, sample_weight, average, parts)


@register("f1", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=averaged(FScore(), "binary"))
def f1(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Harmonic mean of precision and recall of class 1; all entries together for multilabel targets."""
    return fbeta(labels, targets, sample_weight=sample_weight)


@register("macro_f1", reads="labels", structure=_BY_COLUMN, context=_BY_PART, fast_path=averaged(FScore(), "macro"))
def macro_f1(
    labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """F1 of each class that is a target or a prediction, averaged; of each column for multilabel targets."""
    return fbeta(labels, targets, average="macro", sample_weight=sample_weight, parts=parts)


@register(
    "weighted_f1", reads="labels", structure=_BY_COLUMN, context=_BY_PART, fast_path=averaged(FScore(), "weighted")
)
def weighted_f1(
    labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """F1 of each class, averaged by how often it is a target; of each column for multilabel targets.

    Where one class makes up most of the rows it is about that class's F1; ``macro_f1`` asks for the rare ones too.
    """
    return fbeta(labels, targets, average="weighted", sample_weight=sample_weight, parts=parts)


@register("micro_f1", reads="labels", structure=_POOLED, context=_BY_PART, fast_path=averaged(FScore(), "micro"))
def micro_f1(
    labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """F1 of all classes' counts together: the accuracy where every row has one label."""
    return fbeta(labels, targets, average="micro", sample_weight=sample_weight, parts=parts)


@register("samples_f1", reads="labels", structure=_BY_ROW, context=_BY_PART, fast_path=averaged(FScore(), "samples"))
def samples_f1(
    labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None, parts: Tensor | None = None
) -> Tensor:
    """F1 of each row of multilabel targets, averaged."""
    return fbeta(labels, targets, average="samples", sample_weight=sample_weight, parts=parts)


@register("jaccard", reads="labels", structure=_by_average, context=_BY_PART, fast_path=_jaccard_sums)
def jaccard(
    labels: Tensor,
    targets: Tensor,
    *,
    average: Average = "binary",
    sample_weight: Tensor | None = None,
    parts: Tensor | None = None,
) -> Tensor:
    """Intersection over union of class 1; ``average`` as for ``fbeta``."""
    return _averaged(INTERSECTION_OVER_UNION, labels, targets, sample_weight, average, parts)


def _recalls(labels: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """``(T, C)`` recall of each class, and whether it is a target at all."""
    counts = class_counts(*pooled(labels, targets, weight))
    return ratio(counts.hit, counts.actual), counts.actual > 0


@register("balanced_accuracy", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=BALANCED_ACCURACY)
def balanced_accuracy(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Recall of each class that is a target, averaged."""
    recall, present = _recalls(labels, targets, sample_weight)
    return mean_over_last(recall, None, present)


@register("g_mean", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=G_MEAN)
def g_mean(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Geometric mean of the recalls of the classes that are targets: 0 as soon as one of them is never found."""
    recall, present = _recalls(labels, targets, sample_weight)
    return mean_over_last(recall.log(), None, present).exp()


@register("mcc", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=MCC)
def mcc(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Matthews correlation of targets and predictions.

    0 where either has one class only, as in scikit-learn; torchmetrics gives 1 or -1 to some of those cases.
    """
    counts = class_counts(*pooled(labels, targets, sample_weight))
    total = counts.actual.sum(-1)
    covariance = counts.hit.sum(-1) * total - (counts.actual * counts.predicted).sum(-1)
    spread = [total**2 - x.square().sum(-1) for x in (counts.actual, counts.predicted)]
    return correlation(covariance, spread[0] * spread[1])


@register("kappa", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=KAPPA)
def kappa(labels: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
    """Cohen's kappa: agreement above what chance gives; NaN where both have one and the same class only."""
    counts = class_counts(*pooled(labels, targets, sample_weight))
    total = counts.actual.sum(-1)
    apart = total - counts.hit.sum(-1)
    chance = total - (counts.actual * counts.predicted).sum(-1) / total
    alone = counts.seen.sum(-1) < 2
    return torch.where(alone, torch.nan, 1 - apart / chance)


@register("quadratic_kappa", reads="labels", structure=_POOLED, context=_WEIGHTED, fast_path=_grades)
def quadratic_kappa(
    labels: Tensor, targets: Tensor, *, num_classes: int | None = None, sample_weight: Tensor | None = None
) -> Tensor:
    """Cohen's kappa of ordered grades, where a miss weighs its squared distance.

    Without ``num_classes`` the distance is counted in the grades that occur, as scikit-learn does without ``labels``:
    with grades 0, 1 and 4 in a batch, 1 and 4 are neighbours. With ``num_classes`` it is the difference of the
    grades, as in torchmetrics. NaN where both have one and the same grade only.
    """
    labels, targets, weight = pooled(labels, targets, sample_weight)
    counts = class_counts(labels, targets, weight)
    classes = counts.hit.shape[-1]
    if num_classes is not None and classes > max(2, num_classes):
        raise MetricgradError(f"quadratic_kappa: num_classes={num_classes}, but there is a grade {classes - 1}")
    grade = counts.seen.long().cumsum(-1) - 1 if num_classes is None else torch.arange(classes, device=labels.device)
    grade = wide(grade.expand(counts.hit.shape))
    ones = wide(torch.ones_like(targets) if weight is None else weight)
    distance = grade.gather(1, labels) - grade.gather(1, targets.expand(labels.shape))
    total = counts.actual.sum(-1)
    observed = (ones * distance.square()).sum(-1)
    # sum_ij a_i p_j (g_i - g_j)^2 / n, from the moments of the two margins
    first = [(x * grade).sum(-1) for x in (counts.actual, counts.predicted)]
    second = [(x * grade.square()).sum(-1) for x in (counts.actual, counts.predicted)]
    expected = second[0] + second[1] - 2 * first[0] * first[1] / total
    alone = counts.seen.sum(-1) < 2
    return torch.where(alone, torch.nan, 1 - observed / expected)
