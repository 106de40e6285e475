"""UniLoss: the interpolated metric, which nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metricgrad.checks import check_options
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.options import Interpolation
from metricgrad.losses.interpolated.paper import Gradient, Paper, PaperInterpolated
from metricgrad.losses.registry import (
    ANSWER_SPANS,
    CLASSIFICATION,
    KEYPOINTS,
    REGRESSION,
    RETRIEVAL,
    SOFTNESS,
    SOFTNESS_OF_COSINES,
    TOKENS,
    Entry,
    register,
)
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring


class UniLoss(Loss):
    """The metric itself, interpolated over configurations of its comparisons; nothing is learned, nothing is aligned.

    Use it where you are judged by a metric of labels or of order and want a loss without writing one. Do not use it
    where the metric is differentiable (it is then the metric itself), or as the first thing: tuned cross-entropy is a
    hard baseline on clean, balanced data.

    Args:
        metric: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        refactoring: what the metric reads of the scores; known or found by probing when left out.
        interpolation: ``"local"`` or ``"inverse_distance"``; see
            :class:`metricgrad.losses.interpolated.interpolated.Interpolated`.
        paper: True or ``"published"`` for the paper's bit-flip anchors and inverse distances at a fixed softness of 1;
            ``"released"`` for the anchors of the released code.
        gradient: ``"released"``, with inverse distances, for the sign error in the released backward pass.
        seed: of its random choices.
        options: keyword arguments of :class:`metricgrad.losses.interpolated.interpolated.Interpolated`.

    Quadratic kappa, and other metrics that compare with chance, say little about single moves while a model still
    predicts few classes: give them ``warm_up=`` some steps. Without it quadratic kappa ends where it pays to predict
    few classes; with 100 steps of it, a linear scorer's kappa beats cross-entropy's (benchmarks/RESULTS.md).

    Cost:
        Labels: one sort-free pass over at most ``calls`` (foreign metric) or some thousand (built-in) score sets.
        Binary rankings of N scores: near-linear time and memory in N.

    References:
        Liu, Wang and Deng, "UniLoss: Unified Surrogate Loss by Adaptive Interpolation", ECCV 2020, Eq. 5 to 10. The
        default differs from the paper: anchors are score sets rather than bit patterns, and the interpolation is local,
        because inverse distance weighting hardly depends on the metric for rankings (docs/interpolation.md).
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        refactoring: Refactoring | None = None,
        *,
        interpolation: Interpolation = "local",
        paper: bool | Paper = False,
        gradient: Gradient = "true",
        seed: int = 0,
        **options: Any,
    ) -> None:
        check_options("UniLoss", options, Interpolated, PaperInterpolated)
        if paper:
            interpolation = "inverse_distance"
            options.setdefault("softness", 1.0)
        if paper or gradient != "true":
            form = _literal(as_metric(metric), refactoring, interpolation, paper, gradient, options)
        else:
            form = Interpolated(as_metric(metric), refactoring=refactoring, interpolation=interpolation, **options)
        super().__init__(form, seed=seed)


def _literal(
    metric: Metric,
    refactoring: Refactoring | None,
    interpolation: Interpolation,
    paper: bool | Paper,
    gradient: Gradient,
    options: dict[str, Any],
) -> PaperInterpolated:
    if interpolation != "inverse_distance":
        raise MetricgradError(f"gradient is {gradient!r}; expected 'true', unless interpolation='inverse_distance'")
    anchors: Paper | None = "published" if paper is True else paper or None
    # one search space serves both forms: these are of moves, which the paper has not
    given: dict[str, Any] = {name: value for name, value in options.items() if name not in ("q", "calls")}
    given.setdefault("softness", "once")
    return PaperInterpolated(metric, refactoring=refactoring, paper=anchors, gradient=gradient, **given)


register(
    "uniloss",
    Entry(
        UniLoss,
        CLASSIFICATION | REGRESSION | RETRIEVAL | KEYPOINTS | TOKENS | ANSWER_SPANS,
        "the metric itself, interpolated; uniloss:metric=accuracy is a wrong-metric control",
        space={"softness": SOFTNESS},
        of_embeddings={"softness": SOFTNESS_OF_COSINES},
        takes_metric=True,
        passes_on_to=Interpolated,
        controls=("margin",),
    ),
)
