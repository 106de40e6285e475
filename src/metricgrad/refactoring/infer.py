"""What a metric reads from the scores: as described, or found by probing, as the refactoring that serves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import checked
from metricgrad.refactoring.direction import refuse_wrong_direction
from metricgrad.refactoring.from_structure import described, from_structure
from metricgrad.refactoring.probing.probe import Finding, describe, probe


def infer_refactoring(
    metric: str | Metric | Callable[..., Any], scores: Tensor, targets: Tensor, **context: Tensor | None
) -> Refactoring:
    """The refactoring of a metric: its own where it is described, otherwise found by probing.

    Call it to see what UniLoss will interpolate over, or to find out once and pass the result on as ``refactoring=``.
    Costs nothing for a described metric, and at most 200 calls of one that nobody described. Only order and labels are
    looked for; a metric that reads more, such as calibration error, is refused.

    Args:
        metric: a Metric, or what :func:`metricgrad.as_metric` makes one of.
        scores: one batch of raw scores, ``(N,)``, ``(N, C)`` or, of images and sentences, more axes; of an unknown
            metric only shape, dtype and device are looked at.
        targets: as the metric takes them.
        context: ``groups``, ``mask``, ``sample_weight`` or ``head_sizes``, where the metric takes them.

    Returns:
        The refactoring. Its ``report()`` says what was tried and found.

    Raises:
        MetricgradError: where nothing holds, saying what was tried and what to do; where ideal scores have the worst
            value of all in the metric's direction.

    Example:
        >>> import torch, metricgrad as mg
        >>> def accuracy(labels, targets): return (labels == targets).double().mean()
        >>> metric = mg.as_metric(accuracy, higher_is_better=True, reads="labels")
        >>> infer_refactoring(metric, torch.randn(40, 3), torch.arange(40) % 3).name
        'argmax'
    """
    metric = as_metric(metric)
    scores, targets, context = metric.class_targets.read(scores, targets, context)
    metric = metric.of_read_batches()
    batch = checked(metric, scores, targets, context, check_finite=False)
    if metric.structure is not None:
        refactoring = described(
            metric, batch.scores, batch.targets, groups=batch.groups, head_sizes=batch.context.get("head_sizes")
        )
        report = f"metric {metric.name!r} is described, and was not probed\nfound: {describe(metric.structure)}"
    else:
        _check_probeable(metric)
        finding = probe(metric, scores, targets, **context)
        structure = _found(metric, finding)
        stack, whole = batch.as_called(batch.scores.detach()[None])
        refactoring = from_structure(structure, stack[0], whole, metric, groups=batch.context.get("groups"))
        report = finding.report()
    refactoring.findings = report
    return refactoring


def probe_once(metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Structure:
    """The structure that probing finds, for a caller that keeps it.

    Raises:
        MetricgradError: where nothing holds, saying what was tried and what to do; where ideal scores have the worst
            value of all in the metric's direction.
    """
    _check_probeable(metric)
    finding = probe(metric, scores, targets, **context)
    return _found(metric, finding)


def _check_probeable(metric: Metric) -> None:
    if metric.layout.of_embeddings:
        raise MetricgradError(
            f"metric {metric.name!r} reads embeddings, and what it reads of them is not probed; where it reads nearest "
            "neighbours by cosine, pass refactoring=Neighbours() and interpolation='inverse_distance'"
        )


def _found(metric: Metric, finding: Finding) -> Structure:
    refuse_wrong_direction(metric, finding.graded[0], finding.graded[1:])
    if finding.structure is None:
        raise MetricgradError(f"metric {metric.name!r}: no refactoring found\n{finding.report()}")
    return finding.structure
