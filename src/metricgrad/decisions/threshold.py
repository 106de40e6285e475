"""The cut above which an entry counts as positive: one for all entries, or one for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metricgrad.decisions.base import Decision, columns
from metricgrad.metrics.decoding import canonical, is_binary
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.layouts.class_targets import axis_of
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_labels import OfTables
from metricgrad.precision import wide

CANDIDATES = 256
CANDIDATES_FOREIGN = 64
_EACH = 32
_PASSES = 2


class Threshold(Decision):
    """An entry is positive where its score is above the threshold: ``decision(scores) = scores - threshold``.

    For binary scores ``(N,)`` and multilabel scores ``(N, C)``; for classes that exclude each other take
    :class:`Offsets`.

    Args:
        threshold: on the logit scale; one number, or one for each of C labels.

    Example:
        >>> import torch
        >>> Threshold(1.0).predict(torch.tensor([0.5, 2.0])).tolist()
        [0, 1]
    """

    kind: ClassVar[str] = "threshold"
    threshold: Tensor

    def __init__(self, threshold: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.float64))

    def forward(self, scores: Tensor) -> Tensor:
        """Scores minus the threshold."""
        if self.threshold.ndim:
            columns(scores, len(self.threshold), self.kind)
        return scores - self.threshold.to(scores)

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """The best single threshold; among equals the one nearest to 0.

        Cost: at most 257 values of a built-in metric or of a foreign one of the same value, 65 calls of another.
        """
        return cls(choose_threshold(metric, scores, targets, None, **context)[0])

    def config(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold.tolist()}


class LabelThresholds(Threshold):
    """A :class:`Threshold` for each of C labels, moved one label at a time from the best single one.

    Not for labels with a handful of positives: what is fitted to them does not last, and
    :func:`metricgrad.fit_decision` then keeps one threshold for all.
    """

    kind: ClassVar[str] = "label_thresholds"

    @classmethod
    def fit(cls, metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Self:
        """Coordinate ascent: two passes over the labels, at most 33 values of the metric for each."""
        shared, best = choose_threshold(metric, scores, targets, None, **context)
        cut = wide(scores).new_full((scores.shape[1],), shared)
        sign = 1.0 if metric.higher_is_better else -1.0
        for _ in range(_PASSES):
            before = cut.clone()
            for label in range(len(cut)):
                tried = torch.cat([cut[label : label + 1], wide(candidates(scores[:, label], _EACH))])
                stack = (scores - cut.to(scores)).expand(len(tried), -1, -1).clone()
                stack[:, :, label] = scores[:, label] - tried[:, None].to(scores)
                values = torch.nan_to_num(sign * metric.over(stack, targets, **context), nan=-torch.inf)
                at = int(values.argmax())
                if float(values[at]) > sign * best:
                    cut[label], best = tried[at], sign * float(values[at])
            if torch.equal(before, cut):
                break
        return cls(cut.tolist())


def needs_threshold(metric: Metric, scores: Tensor, targets: Tensor) -> bool:
    """Whether one threshold is the decision to look for: the metric reads labels, and there is one score an item."""
    if metric.reads != "labels" or not metric.layout.of_decisions:
        return False
    scores, targets = canonical(*replace(metric.class_targets, pos_label=None).pairs(scores, targets))
    return scores.shape == targets.shape and scores.ndim == 1


def candidates(scores: Tensor, count: int) -> Tensor:
    """0 and at most ``count`` midpoints between neighbouring distinct scores, nearest to 0 first."""
    distinct = scores.unique()
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) > count:
        middle = middle[torch.linspace(0, len(middle) - 1, count, device=middle.device).round().long()]
    found = torch.cat([middle.new_zeros(1), middle])
    return found[found.abs().argsort(stable=True)]


def choose_threshold(
    metric: Metric, scores: Tensor, targets: Tensor, count: int | None = None, **context: Tensor | None
) -> tuple[float, float]:
    """The threshold with the best metric value; among equals the one nearest to 0.

    Cost: at most 257 values of a built-in metric in one batched call; of a foreign one of the same value, as many from
    counts and two calls; 65 calls of another.

    Args:
        metric: one that reads labels.
        scores: ``(N,)`` or ``(N, 1)`` logits, or entries of any shape under one threshold.
        targets: shaped like the scores.
        count: how many candidates beside 0; 256, or 64 for a foreign metric that has to be called, by default.
        context: what the metric takes beside.

    Returns:
        The threshold, and the metric there (NaN where the metric is undefined at every threshold).
    """
    if scores.shape != targets.shape:
        axis = axis_of(scores.shape, targets.shape, metric.class_targets.class_dim)
        scores, targets = canonical(scores.movedim(axis, -1), targets)
    if (path := _twin(metric, scores, targets, context)) is not None:
        tried = candidates(scores, count or CANDIDATES)
        values = _by_tables(path, tried, scores, targets)
        best = _best(metric, values)
        called = metric.over(scores - tried[[0, best], None], targets)
        if torch.allclose(called, values[[0, best]], rtol=1e-5, equal_nan=True):
            return float(tried[best]), float(values[best])
    tried = candidates(scores, count or (CANDIDATES if metric.batched else CANDIDATES_FOREIGN))
    values = metric.over(scores - tried.reshape(-1, *[1] * scores.ndim), targets, **context)
    best = _best(metric, values)
    return float(tried[best]), float(values[best])


def _best(metric: Metric, values: Tensor) -> int:
    return int(torch.nan_to_num(values if metric.higher_is_better else -values, nan=-torch.inf).argmax())


def _twin(metric: Metric, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None]) -> OfTables | None:
    """What a foreign metric is presumed to be of one list of yes or no, where rows weigh the same."""
    told = any(value is not None for value in context.values()) or metric.class_targets.pos_label not in (None, 1)
    plain = scores.ndim == 1 and len(scores) > 0 and is_binary(targets) and not told
    return metric.twin if plain and isinstance(metric.twin, OfTables) else None


def _by_tables(path: OfTables, cuts: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
    """``(K,)`` values at these cuts."""
    cells: list[Tensor] = []
    for label in (0, 1):
        own = scores[targets == label].sort().values
        below = torch.searchsorted(own, cuts, right=True)
        cells.append(torch.stack([below, len(own) - below], 1))
    tables = ConfusionTables.of_cells(wide(torch.stack(cells, 1)))
    return path.shown(tables, path.values(tables)).to(torch.promote_types(scores.dtype, torch.float32))
