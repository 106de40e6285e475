"""What sending rows of one class to another is worth to a metric of labels."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.fast_paths import OfLabels
from metricgrad.metrics.metric import Metric

_EPS = 1e-3
_PSEUDO_ROWS = 4.0  # all cells together weigh at most so many rows
_ALL_CELLS = 64
_SHARE = 20


def values_of_labels(metric: Metric, labels: Tensor, targets: Tensor, classes: int, **context: Tensor | None) -> Tensor:
    """``(T,)`` float64 values of ``(T, N)`` predicted classes.

    Built-in metrics that take weights are called on the labels; others on scores that have these labels on top.
    """
    given = {name: value for name, value in context.items() if value is not None}
    if isinstance(metric.fast_path, OfLabels) and given.keys() <= {"sample_weight"}:
        weight = given.get("sample_weight", torch.ones(targets.shape, dtype=torch.float64, device=targets.device))
        return metric.of_labels(labels, targets, weight).double()
    scores = labels.float() * 2 - 1 if classes == 1 else torch.nn.functional.one_hot(labels, classes).float()
    return metric.over(scores, targets, **context).double()


def slopes_of_labels(
    metric: Metric, labels: Tensor, targets: Tensor, classes: int, *, of: Tensor, weight: Tensor | None = None
) -> Tensor:
    r"""``(K, C)`` utilities :math:`V_{yb} = N \, \partial g / \partial M_{yb}` of K targets, M the confusion table.

    Signed so that more is better; only differences within a row mean anything. Classes that are neither a target nor a
    prediction share one column, so a thousand classes cost no more than those seen.

    Args:
        metric: one whose fast path is :class:`~metricgrad.metrics.fast_paths.OfLabels`.
        labels: ``(N,)`` predicted classes.
        targets: ``(N,)`` classes.
        classes: C.
        of: ``(K,)`` the targets asked about.
        weight: ``(N,)`` of the rows.
    """
    few = classes <= _ALL_CELLS
    every = torch.arange(classes, device=labels.device)
    seen = every if few else torch.cat([labels, targets, of]).unique()
    absent = every.new_ones(classes, dtype=torch.bool)
    absent[seen] = False
    spare = absent.nonzero()[:1, 0]  # one that was not seen stands for all of them
    columns = torch.cat([seen, spare])
    rows = every if few else of
    cells = (rows[:, None] * classes + columns).flatten()
    keys = torch.cat([cells, targets * classes + labels]).unique()
    ones = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    mass = ones if weight is None else weight.double() * (len(weight) / weight.double().sum())
    table = torch.full(keys.shape, min(_EPS, _PSEUDO_ROWS / len(keys)), dtype=torch.float64, device=labels.device)
    table.index_add_(0, torch.searchsorted(keys, targets * classes + labels), mass)
    with torch.enable_grad():
        table.requires_grad_()
        value = metric.of_labels((keys % classes)[None], keys // classes, table)[0]
        depends = value.requires_grad  # not where it is what it is whatever the counts
        slopes = torch.autograd.grad(value, table)[0] if depends else torch.zeros_like(table)
    sign = 1.0 if metric.higher_is_better else -1.0
    wanted = of[:, None] * classes + columns
    found = sign * len(labels) * torch.nan_to_num(slopes[torch.searchsorted(keys, wanted)])
    if len(columns) == classes:
        return torch.empty_like(found).scatter(1, columns.expand_as(found), found)
    filled = found[:, -1:].expand(-1, classes).clone() if len(spare) else found.new_zeros(len(of), classes)
    return filled.scatter(1, columns.expand_as(found), found)


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
        return torch.zeros(len(to), dtype=torch.float64, device=labels.device)
    stride = min(_SHARE, len(rows))
    rows = rows[start % stride :: stride]
    tried = labels.expand(1 + len(to), -1).clone()
    tried[1:, rows] = to[:, None]
    values = values_of_labels(metric, tried, targets, classes, sample_weight=weight)
    sign = 1.0 if metric.higher_is_better else -1.0
    return sign * torch.nan_to_num(values[1:] - values[0]) * (len(targets) / len(rows))
