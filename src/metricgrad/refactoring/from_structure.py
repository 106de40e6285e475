"""From what is known of a metric to the refactoring that serves it."""

from __future__ import annotations

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.differentiable import Differentiable, of_classes
from metricgrad.refactoring.labels import Argmax, Threshold
from metricgrad.refactoring.neighbours import Neighbours
from metricgrad.refactoring.peak import Peak
from metricgrad.refactoring.ranking.lists import Within
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives, Ranking
from metricgrad.refactoring.span_ends import SpanEnds
from metricgrad.refactoring.tokens import Tokens
from metricgrad.refactoring.top_k import TopK


def described(
    metric: Metric,
    scores: Tensor,
    targets: Tensor,
    *,
    groups: Tensor | None = None,
    head_sizes: Tensor | None = None,
) -> Refactoring:
    """The refactoring that a described metric carries, for scores and targets of these shapes.

    Raises:
        MetricgradError: where nobody described the metric.
    """
    if metric.structure is None:
        raise MetricgradError(f"nothing is known of metric {metric.name!r}: call infer_refactoring, which probes it")
    return from_structure(metric.structure, scores, targets, metric, groups=groups, head_sizes=head_sizes)


def for_batch(structure: Structure, batch: Batch, metric: Metric) -> Refactoring:
    """The refactoring that a structure is for one batch.

    Raises:
        MetricgradError: where the structure cannot be that of such batches.
    """
    structure = batch.structure(structure)
    by_row = batch.context.keys() - {"groups"} - ({"head_sizes"} if structure.kind == "peak" else set())
    if structure.exchangeable != "none" and by_row:
        structure = Structure(structure.kind, "none", structure.params)  # weights tell entries apart
    elif structure.kind == "labels" and "groups" in batch.context and structure.exchangeable != "none":
        structure = Structure(structure.kind, "group", structure.params)
    return from_structure(
        structure,
        batch.scores,
        batch.targets,
        metric,
        groups=batch.groups,
        head_sizes=batch.context.get("head_sizes"),
        apart=batch.of_items("sample_weight"),
    )


def from_structure(
    structure: Structure,
    scores: Tensor,
    targets: Tensor,
    metric: Metric,
    *,
    groups: Tensor | None = None,
    head_sizes: Tensor | None = None,
    apart: Tensor | None = None,
) -> Refactoring:
    """Build the refactoring for one structure; only shapes are looked at.

    ``apart`` are ``(N,)`` numbers that tell rows of equal scores and targets apart, such as weights.
    """
    rows_of_classes = scores.ndim == targets.ndim + 1
    if structure.kind == "labels" and rows_of_classes:
        # with one target a row, entries of a row or a column are rows
        known = structure.exchangeable
        return Argmax(exchangeable=known if known in ("none", "sample", "group") else "all")
    if structure.kind == "labels":
        alone = scores.ndim == 1 and structure.exchangeable in ("row", "column")  # a row of one, or the only column
        return Threshold(exchangeable="all" if alone else structure.exchangeable)
    if structure.kind == "top_k":
        if not rows_of_classes:
            raise MetricgradError(
                f"metric {metric.name!r} ranks the classes of each row: expected scores (N, C) and targets (N,), got "
                f"{tuple(scores.shape)} and {tuple(targets.shape)}"
            )
        return TopK(k=structure.params["k"])
    if structure.kind == "peak":
        return Peak(radius=structure.params.get("radius"), head_sizes=head_sizes, exchangeable=structure.exchangeable)
    if structure.kind == "tokens":
        tokens = Tokens(end=structure.params.get("end"), unknown=structure.params.get("unknown"))
        tokens.check(scores, targets)
        return tokens
    if structure.kind == "span_ends":
        return SpanEnds()
    if structure.kind == "differentiable":
        return Differentiable(of_classes=of_classes(structure, metric))
    if structure.kind == "neighbours":
        return Neighbours()
    if structure.kind == "clusters":
        raise MetricgradError(
            f"metric {metric.name!r} reads clusters found anew for every score set, so no comparison of two scores "
            "decides it; train on 'map_at_r' or 'retrieval_recall' and judge by it"
        )
    within = _within(structure, scores, groups)
    odds = rows_of_classes and within == "column" and metric.reads == "probabilities"
    kinds = {"positives_over_negatives": PositivesOverNegatives, "ranking": Ranking}
    if structure.kind not in kinds:
        raise MetricgradError(f"unknown structure {structure.kind!r} of metric {metric.name!r}")
    return kinds[structure.kind](
        within=within, odds=odds, exchangeable=structure.exchangeable, decoded=metric.by_order, apart=apart
    )


def _within(structure: Structure, scores: Tensor, groups: Tensor | None) -> Within:
    within = structure.params.get("within", "all")
    if within != "auto":
        return within
    if groups is not None:
        return "group"
    return structure.params.get("two_d", "row") if scores.ndim == 2 else "all"
