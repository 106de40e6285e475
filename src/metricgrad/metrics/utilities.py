"""What sending rows of one class to another is worth to a metric of labels."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfLabels, OfTables
from metricgrad.precision import wide, wide_dtype

_SHARE = 20


def values_of_labels(metric: Metric, labels: Tensor, targets: Tensor, classes: int, **context: Tensor | None) -> Tensor:
    """``(T,)`` float64 values of ``(T, N)`` predicted classes.

    Built-in metrics that take weights are called on the labels; others on scores that have these labels on top.
    """
    given = {name: value for name, value in context.items() if value is not None}
    if isinstance(metric.fast_path, OfLabels) and given.keys() <= {"sample_weight"}:
        weight = given.get("sample_weight", wide(torch.ones_like(targets)))
        return wide(metric.of_labels(*metric.class_targets.answers(labels, targets), weight))
    scores = labels.float() * 2 - 1 if classes == 1 else torch.nn.functional.one_hot(labels, classes).float()
    return wide(metric.over(scores, targets, **context))


def slopes_of_labels(
    metric: Metric, labels: Tensor, targets: Tensor, classes: int, *, of: Tensor, weight: Tensor | None = None
) -> Tensor:
    r"""``(K, C)`` utilities :math:`V_{yb} = \partial g / \partial M_{yb}` of K targets at the smoothed table M.

    Signed so that more is better. Classes that are neither a target nor a prediction share one column, so a thousand
    classes cost no more than those seen.

    Args:
        metric: one whose fast path is :class:`~metricgrad.metrics.of_labels.OfTables`.
        labels: ``(N,)`` predicted classes.
        targets: ``(N,)`` classes.
        classes: C.
        of: ``(K,)`` the targets asked about.
        weight: ``(N,)`` of the rows.
    """
    mass = wide(torch.ones_like(labels) if weight is None else weight)
    turned = metric.class_targets.pos_label == 0  # the tables are of yes and no, and here yes is class 0
    labels, targets = metric.class_targets.answers(labels, targets)
    tables = ConfusionTables.of(labels[None], targets, (mass / mass.sum())[None], classes, smooth=1 / len(labels))
    path = metric.fast_path
    assert isinstance(path, OfTables)
    slopes = path.at(tables).slopes()
    rows = (slopes if metric.higher_is_better else -slopes).rows(1 - of if turned else of, mass)
    return rows.flip(1) if turned else rows


def called_of_labels(
    metric: Metric, labels: Tensor, targets: Tensor, classes: int, *, of: int, to: Tensor, start: int = 0,
    weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``(B,)`` utilities of deciding rows of one target as each class of ``to``, by calling the metric.

    A twentieth of the rows of that target is sent to each class in turn, the others stay: ``B + 1`` calls. Zero where
    the target does not occur.

    Args:
        metric: any that reads labels.
        labels: ``(N,)``.
        targets: ``(N,)``.
        classes: C.
        of: the target asked about.
        to: ``(B,)`` classes.
        start: which twentieth.
        weight: ``(N,)`` of the rows.
    """
    rows = (targets == of).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(len(to), dtype=wide_dtype(labels.device), device=labels.device)
    stride = min(_SHARE, len(rows))
    rows = rows[start % stride :: stride]
    tried = labels.expand(1 + len(to), -1).clone()
    tried[1:, rows] = to[:, None]
    values = values_of_labels(metric, tried, targets, classes, sample_weight=weight)
    sign = 1.0 if metric.higher_is_better else -1.0
    return sign * torch.nan_to_num(values[1:] - values[0]) * (len(targets) / len(rows))
