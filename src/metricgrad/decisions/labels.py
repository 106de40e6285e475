"""What decisions on classes share."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfTables
from metricgrad.metrics.utilities import called_of_labels, slopes_of_labels, values_of_labels


def utilities(
    metric: Metric, labels: Tensor, targets: Tensor, classes: int, *, weight: Tensor | None = None
) -> Tensor:  # fmt: skip
    """``(C, C)``: what the metric gains per row when rows of target y are decided as b.

    A built-in metric is differentiated; a foreign one is called C (C + 1) times.
    """
    every = torch.arange(classes, device=labels.device)
    if isinstance(metric.fast_path, OfTables):
        return slopes_of_labels(metric, labels, targets, classes, of=every, weight=weight)
    called = [called_of_labels(metric, labels, targets, classes, of=y, to=every, weight=weight) for y in range(classes)]
    return torch.stack(called)


def quantiles(values: Tensor, count: int) -> Tensor:
    """At most ``count`` midpoints between neighbouring distinct finite values, evenly spread over them."""
    distinct = values[torch.isfinite(values)].unique()
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) > count:
        middle = middle[torch.linspace(0, len(middle) - 1, count, device=middle.device).round().long()]
    return middle


def is_ordinal(metric: Metric, labels: Tensor, targets: Tensor, classes: int) -> bool:
    """Whether the metric tells apart near misses from far ones: it changes when classes are renamed on both sides."""
    if classes < 3:
        return False
    swapped = torch.arange(classes, device=labels.device)
    swapped[[0, classes - 1, classes // 2]] = swapped[[classes // 2, 0, classes - 1]]
    before = values_of_labels(metric, labels[None], targets, classes)
    after = values_of_labels(metric, swapped[labels][None], swapped[targets], classes)
    return bool((before - after).abs() > 1e-9)
