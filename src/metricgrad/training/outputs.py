"""What a model's raw scores say once it is trained: the label of each item, and its probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from metricgrad.decisions.base import Decision
from metricgrad.errors import MetricgradError
from metricgrad.metrics.decoding import canonical, is_binary
from metricgrad.metrics.layouts.class_targets import axis_of
from metricgrad.metrics.layouts.embeddings import Embeddings
from metricgrad.metrics.layouts.heat_maps import peaks
from metricgrad.metrics.layouts.layout import HEAT_MAPS, ROWS, SENTENCES, SPANS, Layout
from metricgrad.metrics.layouts.spans import best_spans
from metricgrad.metrics.metric import Metric

#: ``classes``: one score for each class, on the last axis; ``classes_first``: on axis 1, as of images; ``labels``: one
#: for each yes or no; ``values``: the score is the answer; ``points`` of heat maps; ``words`` of sentences; ``spans``
#: of answers; ``embeddings``, which answer nothing.
Output = Literal["classes", "classes_first", "labels", "values", "points", "words", "spans", "embeddings"]

_OF_LAYOUT: dict[Layout, Output] = {
    HEAT_MAPS: "points",
    SENTENCES: "words",
    SPANS: "spans",
    Embeddings(ROWS): "embeddings",
}


def output_of(metric: Metric, scores: Tensor, targets: Tensor) -> Output:
    """What scores are of, by what the metric reads and by the shape and the values of all validation targets."""
    if metric.layout in _OF_LAYOUT:
        return _OF_LAYOUT[metric.layout]
    classes = metric.class_targets
    axis = axis_of(scores.shape, targets.shape, classes.class_dim)
    scores, targets = canonical(*replace(classes, pos_label=None).pairs(scores, targets))
    if scores.ndim > targets.ndim:
        return "classes" if axis == -1 else "classes_first"
    known, yes_or_no = metric.structure, classes.pos_label is not None or is_binary(targets)
    of_values = known is not None and known.kind == "differentiable" and not known.params.get("of_classes")
    return "labels" if metric.reads == "labels" or (yes_or_no and not of_values) else "values"


def labels_of(output: Output, scores: Tensor, decision: Decision, metric: Metric) -> Tensor:
    """The answer for each item, shaped like its target; see :meth:`metricgrad.FitResult.predict`.

    Raises:
        MetricgradError: for embeddings, and for scores that the decision was not fitted on.
    """
    if output in ("classes", "classes_first"):
        return decision(scores).argmax(1 if output == "classes_first" else -1)
    if output == "words":
        return scores.argmax(-1)
    if output == "points":
        return peaks(scores)
    if output == "spans":
        return best_spans(scores, metric.fixed.get("max_length"))
    if output == "embeddings":
        raise MetricgradError(
            "this model makes embeddings, which are no labels; take scores(inputs) and compare them by cosine"
        )
    scores = _without_last(scores)
    return scores if output == "values" else (decision(scores) > 0).long()


def probabilities_of(output: Output, scores: Tensor) -> Tensor:
    """The probability of each class or of yes; see :meth:`metricgrad.FitResult.predict_proba`.

    Raises:
        MetricgradError: where scores are of neither.
    """
    if output in ("classes", "words", "spans"):
        return scores.softmax(-1)
    if output == "classes_first":
        return scores.softmax(1)
    if output == "labels":
        return _without_last(scores).sigmoid()
    raise MetricgradError(f"this model's scores are of {output}, which have no probabilities; take scores(inputs)")


def _without_last(scores: Tensor) -> Tensor:
    """``(N,)`` for ``(N, 1)`` scores, as the metric reads them."""
    return scores.squeeze(-1) if scores.ndim == 2 and scores.shape[-1] == 1 else scores
