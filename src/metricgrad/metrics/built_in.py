"""The built-in metrics by name: each of the families imported here registers its own."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits
from metricgrad.metrics.families import (  # noqa: F401
    bleu,
    calibration,
    confusion,
    correlation,
    neighbours,
    pose,
    ranking,
    regression,
    retrieval,
    segmentation,
    spans,
    top_k,
)
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.registry import TABLE, BuiltIn
from metricgrad.metrics.spec import parse_spec

_ALSO_KNOWN = {
    "acc": "accuracy", "accuracy_score": "accuracy", "subset_accuracy": "accuracy",
    "top5": "top_k_accuracy:k=5", "top_5_accuracy": "top_k_accuracy:k=5", "top_k_accuracy_score": "top_k_accuracy",
    "balanced_acc": "balanced_accuracy", "balanced_accuracy_score": "balanced_accuracy", "uar": "balanced_accuracy",
    "f1_score": "f1", "binary_f1": "f1", "f1_macro": "macro_f1", "f1_micro": "micro_f1", "f1_samples": "samples_f1",
    "f1_weighted": "weighted_f1",
    "f2": "fbeta:beta=2", "fbeta_score": "fbeta", "f_beta": "fbeta", "dice_score": "dice", "dice_coefficient": "dice",
    "iou": "mean_iou", "miou": "mean_iou", "jaccard_score": "jaccard", "jaccard_index": "jaccard",
    "matthews_corrcoef": "mcc", "matthews": "mcc", "phi": "mcc", "cohen_kappa": "kappa", "cohen_kappa_score": "kappa",
    "qwk": "quadratic_kappa", "quadratic_weighted_kappa": "quadratic_kappa", "gmean": "g_mean",
    "geometric_mean_score": "g_mean", "auc": "auroc", "roc_auc": "auroc", "roc_auc_score": "auroc", "rocauc": "auroc",
    "auc_roc": "auroc", "gini": "auroc", "ap": "average_precision", "pr_auc": "average_precision",
    "auprc": "average_precision", "aucpr": "average_precision", "average_precision_score": "average_precision",
    "mean_average_precision": "map", "ndcg_score": "ndcg", "dcg": "ndcg", "hits_at_k": "hit_rate",
    "hit_rate_at_k": "hit_rate", "precision_at_1": "precision_at_k:k=1", "p_at_1": "precision_at_k:k=1",
    "p_at_k": "precision_at_k", "r_at_k": "recall_at_k", "recall_at_1": "retrieval_recall:k=1",
    "r_at_1": "retrieval_recall:k=1", "reciprocal_rank": "mrr", "mean_reciprocal_rank": "mrr",
    "rmse": "mse", "root_mean_squared_error": "mse", "mean_squared_error": "mse", "l2": "mse",
    "mean_absolute_error": "mae", "l1": "mae", "r2_score": "r2", "r_squared": "r2", "spearmanr": "spearman",
    "spearman_r": "spearman", "kendalltau": "kendall", "kendall_tau": "kendall", "nll": "log_loss",
    "cross_entropy": "log_loss", "logloss": "log_loss", "perplexity": "log_loss", "brier_score": "brier",
    "brier_score_loss": "brier", "calibration_error": "ece", "expected_calibration_error": "ece", "pckh": "pck",
    "squad_f1": "span_f1", "em": "exact_match", "bleu_score": "bleu", "sacrebleu": "bleu",
    "error": "accuracy", "error_rate": "accuracy",
}  # fmt: skip

#: How classes are read, of every metric that has some: arguments of ClassTargets.
_OF_CLASSES = ("class_dim", "ignore_index", "pos_label")


def table() -> Mapping[str, BuiltIn]:
    """All built-in metrics, by name."""
    return TABLE


def list_metrics() -> list[str]:
    """Exact names of the built-in metrics, in alphabetical order.

    Example:
        >>> import metricgrad as mg
        >>> "macro_f1" in mg.list_metrics()
        True
    """
    return sorted(table())


def also_known() -> Mapping[str, str]:
    """Other names that people use, in lower case, to a spec of ours; suggested, never resolved."""
    return _ALSO_KNOWN


def is_built_in(name: str) -> bool:
    """Whether a built-in metric has exactly this name."""
    return name in table()


def parameters_of(name: str) -> frozenset[str]:
    """The names of what a built-in metric can be told; of any other name none."""
    return frozenset(table()[name].parameters) if is_built_in(name) else frozenset()


def _expected(hint: Any) -> str:
    """A type hint in words."""
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, choices))}"
    return getattr(hint, "__name__", str(hint))


def built_in(spec: str, fixed: Mapping[str, Any]) -> Metric:
    """Build a metric from ``"name"`` or ``"name:key=value,key=value"``."""
    name, params = parse_spec(spec)
    if name not in table():
        hint = did_you_mean(name, list_metrics(), also_known())
        hint = hint if hint.startswith("did") else "`metricgrad metrics` lists the built-in ones."
        module, _, function = name.rpartition(".")
        written = f"{module}:{function}" if module else "pkg.mod:fn"
        raise MetricgradError(f"unknown metric {name!r}: {hint} A function of your own is written {written}")
    entry = table()[name]
    hints = typing.get_type_hints(entry.fn)
    for key, value in params.items():
        if not fits(value, hints.get(key, Any)):
            raise MetricgradError(f"metric {spec!r:.60}: {key}={value!r:.60}; expected {_expected(hints[key])}")
    params.update(fixed)
    reading = {key: params.pop(key) for key in _OF_CLASSES if key in params}
    unknown = params.keys() - entry.parameters.keys()
    if unknown:
        takes = ", ".join(entry.parameters) or "no parameters"
        raise MetricgradError(f"metric {name!r} takes {takes}, not {', '.join(sorted(unknown))}")
    every = {**entry.parameters, **params}
    structure = entry.structure(**every) if callable(entry.structure) else entry.structure
    label = name + (":" + ",".join(f"{k}={v}" for k, v in params.items()) if params else "")
    metric = Metric(
        entry.fn,
        name=label,
        higher_is_better=entry.higher_is_better,
        reads=entry.reads,
        batched=True,
        structure=structure,
        context=entry.context,
        fixed=params,
        spec=label,
        by_order=entry.by_order,
        targets=entry.targets,
        layout=entry.layout,
        fast_path=entry.path(params),
    )
    return reading_classes(metric, reading) if reading else metric


def reading_classes(metric: Metric, reading: Mapping[str, Any]) -> Metric:
    """The metric of classes that are read in another way.

    Args:
        metric: finished.
        reading: some of the arguments of :class:`metricgrad.metrics.layouts.class_targets.ClassTargets`.

    Raises:
        MetricgradError: for a metric whose targets are no classes, and what ``ClassTargets`` refuses.
    """
    values = metric.batched and metric._targets == "real"
    if values or not metric.layout.of_class_targets:
        raise MetricgradError(
            f"metric {metric.name!r} has no targets that are classes or labels, so it takes no {', '.join(reading)}; "
            "leave rows out with mask="
        )
    class_targets = replace(metric.class_targets, **reading)
    if metric.spec is None:
        return metric._copy(class_targets=class_targets)
    spec = metric.spec + ("," if ":" in metric.spec else ":") + ",".join(f"{k}={v}" for k, v in reading.items())
    name = spec if metric.name == metric.spec else metric.name
    return metric._copy(class_targets=class_targets, spec=spec, name=name)
