"""UniLoss: the interpolated metric, which nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from metricgrad.aligners.first_calls import FirstCallsOfRankings
from metricgrad.checks import check_options
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.base import Form
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.linearized import Linearized
from metricgrad.losses.interpolated.options import Interpolation
from metricgrad.losses.interpolated.paper import Gradient, Paper, PaperInterpolated
from metricgrad.losses.registry import (
    ANSWER_SPANS,
    CLASSIFICATION,
    KEYPOINTS,
    REGRESSION,
    RETRIEVAL,
    SOFTNESS_OF_COSINES,
    TOKENS,
    Entry,
    register,
)
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.layouts.class_targets import ClassDim
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.base import Refactoring

#: structures of metrics that a standard loss of rows can carry
_RANKED = ("ranking", "positives_over_negatives")
_ANCHORED = ("labels", "top_k", *_RANKED)
#: options of the metric alone
_ALONE = ("softness", "share", "warm_up", "anchors", "flips", "power")
_OF_ANCHORING = ("weight", "base_weight", "momentum", "memory")


class UniLoss(Loss):
    """The metric itself, interpolated over its comparisons, riding on a loss that trains; nothing is learned.

    By default it is *anchored*: the standard loss of the problem trains the network, and what the metric asks for is
    brought to the standard loss's size and takes over while training runs
    (:class:`metricgrad.losses.composite.anchored.Anchored` over
    :class:`metricgrad.losses.interpolated.linearized.Linearized`). Tell it how long that is: ``fit`` does, and in a
    loop of your own ``loss.attach(model, optimizer, total_steps=...)``; otherwise the first 500 calls are taken for it.

    Use it where you are judged by a metric of labels or of order. It ties cross-entropy where nothing is to be gained,
    and gains most where classes are ordered, rare or noisy and capacity is short (docs/choosing.md). Do not use it
    where the metric is differentiable (it is then the metric itself).

    Args:
        metric: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        refactoring: what the metric reads of the scores; known or found by probing when left out. Given, it is that of
            the metric alone.
        anchored: False for the metric alone, by local or far interpolation. None: True, unless an option is given that
            only the metric alone has (``refactoring``, ``interpolation``, ``paper``, ``gradient``, ``softness``,
            ``share``, ``warm_up``, ``anchors``, ``flips``, ``power``), or the metric is of embeddings, key points,
            words, spans or real values.
        interpolation: ``"local"`` or ``"inverse_distance"``; see
            :class:`metricgrad.losses.interpolated.interpolated.Interpolated`.
        paper: True or ``"published"`` for the paper's bit-flip anchors and inverse distances at a fixed softness of 1;
            ``"released"`` for the anchors of the released code.
        gradient: ``"released"``, with inverse distances, for the sign error in the released backward pass.
        seed: of its random choices.
        gather: with ``process_group`` as in :class:`metricgrad.Loss`, for data-parallel training.
        process_group: see there.
        class_dim: as in :class:`metricgrad.Loss`, as ``ignore_index``.
        ignore_index: likewise.
        options: anchored, those of ``Anchored`` (``weight``, ``base_weight``, ``momentum``) and of ``Linearized``
            (``memory``, ``calls``, ``q``, ``check_finite``); otherwise those of ``Interpolated``.

    The metric alone (``anchored=False``) trains badly from scratch where it compares with chance, as quadratic kappa
    does: give it ``warm_up=`` some steps.

    Raises:
        MetricgradError: for ``anchored=True`` of a metric that no standard loss of rows can carry, and options that do
            not belong together.

    Cost:
        Labels: some passes over the scores, and one over 1,024 remembered decisions. A list of N scores: near-linear
        in N. Many lists (labels, rows, queries, rows of embeddings): all pairs of a relevant item and another of its
        list, of a long list near-linear. A foreign metric is called at most 16 times a step.

    References:
        Liu, Wang and Deng, "UniLoss: Unified Surrogate Loss by Adaptive Interpolation", ECCV 2020, Eq. 5 to 10. The
        default differs from the paper: anchors are score sets rather than bit patterns, the interpolation is local,
        because inverse distance weighting hardly depends on the metric for rankings (docs/interpolation.md), and it is
        anchored, because alone it seldom beats tuned cross-entropy (benchmarks/RESULTS.md).
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        refactoring: Refactoring | None = None,
        *,
        anchored: bool | None = None,
        interpolation: Interpolation = "local",
        paper: bool | Paper = False,
        gradient: Gradient = "true",
        seed: int = 0,
        gather: bool = True,
        process_group: dist.ProcessGroup | None = None,
        class_dim: ClassDim | None = None,
        ignore_index: int | None = None,
        **options: Any,
    ) -> None:
        check_options("UniLoss", options, Interpolated, PaperInterpolated, Linearized, Anchored)
        metric = as_metric(metric)
        alone = [name for name in _ALONE if name in options]
        alone += ["refactoring"] * (refactoring is not None) + ["interpolation"] * (interpolation != "local")
        alone += ["paper"] * bool(paper) + ["gradient"] * (gradient != "true")
        known = metric.structure
        carried = metric.layout.of_decisions and (known is None or known.kind in _ANCHORED)
        if anchored is None:
            anchored = carried and not alone
        if anchored and (alone or not carried):
            raise MetricgradError(
                f"anchored is True, but {alone[0]}= is of the metric alone; leave one of them out"
                if alone
                else f"anchored is True, but no standard loss of rows carries metric {metric.name!r}; leave it out"
            )
        theirs = [name for name in _OF_ANCHORING if name in options]
        if theirs and not anchored:
            raise MetricgradError(f"{theirs[0]}= is of the anchored loss, and this is the metric alone; leave it out")
        if anchored:
            of_base = {name: options.pop(name) for name in theirs if name != "memory"}
            form: Form = Anchored("task", Linearized(metric, **options), **of_base)
        elif paper or gradient != "true":
            if paper:
                interpolation = "inverse_distance"
                options.setdefault("softness", 1.0)
            form = _literal(metric, refactoring, interpolation, paper, gradient, options)
        else:
            form = Interpolated(metric, refactoring=refactoring, interpolation=interpolation, **options)
        super().__init__(
            form, seed=seed, gather=gather, process_group=process_group, class_dim=class_dim, ignore_index=ignore_index
        )
        if anchored and known is not None and known.kind in _RANKED and known.keeps_apart == "row":
            self._first = FirstCallsOfRankings()


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
        of_embeddings={"softness": SOFTNESS_OF_COSINES},
        takes_metric=True,
        passes_on_to=Interpolated,
        controls=("uniloss_margin",),
    ),
)
