"""The mean of a metric over groups of rows: over images, sentences or people, each valued by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from metricgrad.metrics.families.class_counts import counts_of_groups
from metricgrad.metrics.families.queries import weights_of_queries
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.of_labels import OfClassCounts, OfClasses

_AT_ONCE = 2**24
"""Counts of classes in groups that are held at once."""


def in_groups(
    fn: Callable[..., Tensor], path_of: Callable[[Mapping[str, Any]], FastPath | None] = lambda _: None
) -> Callable[..., Tensor]:
    """A metric of labels that also takes ``groups``, ``(N,)`` integers: then its mean over groups.

    Groups on which it is undefined, such as images without an object, are left out; without any other the value is
    NaN. ``sample_weight`` is then of groups: one for all rows of each.

    Cost: that of one call where one label a row is counted in classes; otherwise a call for each group of its own rows.

    Args:
        fn: of ``(T, N)`` or ``(T, N, C)`` labels and their targets, with ``sample_weight`` and perhaps ``parts``.
        path_of: what it is a function of, by its options.

    Example:
        >>> def right(labels, targets, *, sample_weight=None): return (labels == targets).double().mean(-1)
        >>> labels, targets = torch.tensor([[1, 1, 0]]), torch.tensor([1, 0, 1])
        >>> in_groups(right)(labels, targets, groups=torch.tensor([0, 0, 7])).tolist()
        [0.25]
    """

    @functools.wraps(fn)
    def mean(
        labels: Tensor,
        targets: Tensor,
        *,
        groups: Tensor | None = None,
        sample_weight: Tensor | None = None,
        parts: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        of_rows = {} if parts is None else {"parts": parts}
        if groups is None:
            return fn(labels, targets, sample_weight=sample_weight, **of_rows, **options)
        _, which, sizes = groups.unique(return_inverse=True, return_counts=True)
        path = path_of(options)
        if isinstance(path, OfClassCounts | OfClasses) and labels.ndim == 2 and parts is None:
            values = _at_once(path, labels, targets, which, len(sizes))
        else:
            values = torch.stack([
                fn(labels[:, rows], targets[rows], **{name: part[rows] for name, part in of_rows.items()}, **options)
                for rows in which.argsort(stable=True).split(sizes.tolist())
            ], -1)  # fmt: skip
        weight = torch.ones_like(values[0]) if sample_weight is None else weights_of_queries(sample_weight, groups)
        weight = weight.to(values) * ~values.isnan()
        return (values.nan_to_num() * weight).sum(-1) / weight.sum(-1)

    return mean


def _at_once(path: OfClassCounts | OfClasses, labels: Tensor, targets: Tensor, which: Tensor, count: int) -> Tensor:
    """``(T, G)`` values of each group from ``(T, N)`` labels, for as many groups at a time as memory has room for."""
    classes = max(2, 1 + int(torch.maximum(labels.max(), targets.max())))
    step = min(count, max(1, _AT_ONCE // classes))
    found, sets = [], max(1, _AT_ONCE // (step * classes))
    for first in range(0, count, step):
        rows = slice(None) if step == count else (which >= first) & (which < first + step)
        of_rows, near, groups = targets[rows], which[rows] - first, min(step, count - first)
        found.append(torch.cat([
            path.of_counts(counts_of_groups(part, of_rows, near, groups, classes))
            for part in labels[:, rows].split(sets)
        ]))  # fmt: skip
    return torch.cat(found, 1)
