"""scikit-learn's metrics: they take NumPy arrays, targets first.

Each is called as it is, on what it documents: predicted labels, probabilities, or scores. The adapter adds only what a
batch needs that a whole test set does not: ``labels=`` where a class may be missing, one-hot targets where a ranking
metric wants an indicator, and silence where scikit-learn warns that a value is undefined, 49 times a step.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metricgrad.metrics.adapters.twins import twin_of_sklearn
from metricgrad.metrics.built_in import table
from metricgrad.metrics.layouts.layout import ROWS
from metricgrad.metrics.types import Reads, Structure

Delivery = Literal["labels", "order", "probabilities", "top_k", "indicator", "decision", "regression"]

_READS: dict[Delivery, Reads] = {
    "labels": "labels",
    "order": "probabilities",
    "probabilities": "probabilities",
    "top_k": "scores",
    "indicator": "scores",
    "decision": "scores",
    "regression": "scores",
}


@dataclass(frozen=True)
class SklearnEntry:
    """How one function is called.

    Attributes:
        delivery: what it is handed: ``"order"`` is anything in the order of the probabilities, ``"indicator"`` scores
            with ``(N, C)`` targets, ``"decision"`` scores as they are.
        higher: the direction.
        exchangeable: for labels; ``"average"`` where the ``average`` parameter decides.
        structure: for everything else.
        torch_equivalent: the built-in metric of the same value that has a gradient, where the parameters are the
            defaults.
    """

    delivery: Delivery
    higher: bool = True
    exchangeable: str = "all"
    structure: Structure | None = None
    torch_equivalent: str | None = None


_PAIRS = Structure("positives_over_negatives", "all", {"within": "auto", "two_d": "column"})
_ROW_PAIRS = Structure("positives_over_negatives", "all", {"within": "row"})
_ROW_RANKING = Structure("ranking", "all", {"within": "auto", "two_d": "row"})

_KNOWN: dict[str, SklearnEntry] = {
    **{name: SklearnEntry("labels") for name in ("balanced_accuracy_score", "matthews_corrcoef", "cohen_kappa_score")},
    **{
        name: SklearnEntry("labels")
        for name in (
            "adjusted_mutual_info_score",
            "adjusted_rand_score",
            "completeness_score",
            "fowlkes_mallows_score",
            "homogeneity_score",
            "mutual_info_score",
            "normalized_mutual_info_score",
            "rand_score",
            "v_measure_score",
        )
    },
    **{
        name: SklearnEntry("labels", exchangeable="average")
        for name in ("f1_score", "fbeta_score", "precision_score", "recall_score", "jaccard_score")
    },
    "accuracy_score": SklearnEntry("labels", exchangeable="row"),
    "zero_one_loss": SklearnEntry("labels", higher=False, exchangeable="row"),
    "hamming_loss": SklearnEntry("labels", higher=False),
    "average_precision_score": SklearnEntry("order", structure=_PAIRS),
    "roc_auc_score": SklearnEntry("order", structure=_PAIRS),
    "label_ranking_average_precision_score": SklearnEntry("indicator", structure=_ROW_PAIRS),
    "coverage_error": SklearnEntry("indicator", higher=False, structure=_ROW_PAIRS),
    "label_ranking_loss": SklearnEntry("indicator", higher=False, structure=_ROW_PAIRS),
    "ndcg_score": SklearnEntry("indicator", structure=_ROW_RANKING),
    "dcg_score": SklearnEntry("indicator", structure=_ROW_RANKING),
    "top_k_accuracy_score": SklearnEntry("top_k"),
    "log_loss": SklearnEntry("probabilities", higher=False, torch_equivalent="log_loss"),
    "brier_score_loss": SklearnEntry("probabilities", higher=False),
    "d2_log_loss_score": SklearnEntry("probabilities"),
    "d2_brier_score": SklearnEntry("probabilities"),
    "hinge_loss": SklearnEntry("decision", higher=False),
    "mean_squared_error": SklearnEntry("regression", higher=False, torch_equivalent="mse"),
    "mean_absolute_error": SklearnEntry("regression", higher=False, torch_equivalent="mae"),
    "r2_score": SklearnEntry("regression", torch_equivalent="r2"),
    **{
        name: SklearnEntry("regression", higher=False)
        for name in (
            "max_error",
            "mean_absolute_percentage_error",
            "mean_gamma_deviance",
            "mean_pinball_loss",
            "mean_poisson_deviance",
            "mean_squared_log_error",
            "mean_tweedie_deviance",
            "median_absolute_error",
            "root_mean_squared_error",
            "root_mean_squared_log_error",
        )
    },
    **{
        name: SklearnEntry("regression")
        for name in (
            "d2_absolute_error_score",
            "d2_pinball_score",
            "d2_tweedie_score",
            "explained_variance_score",
        )
    },
}


def describe_sklearn(metric: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` for a function of ``sklearn.metrics``; only the order of arguments
    and the kind of input for one that is no metric of scores, such as a curve.
    """
    options: dict[str, Any] = {"inputs": "numpy", "order": "targets_first", "layout": ROWS}
    known = _KNOWN.get(getattr(metric, "__name__", ""))
    if known is None:
        return options
    if known.delivery in ("order", "probabilities") and fixed.get("pos_label") is not None:
        # it also says whose score is wanted: the batch is turned round before, and the function sees 1 for the yes
        options["pos_label"] = fixed["pos_label"]
        options["fixed"] = fixed = {name: value for name, value in fixed.items() if name != "pos_label"}
    options |= {
        "fn": SklearnAdapter(metric, known.delivery, "labels" in _parameters(metric)),
        "reads": _READS[known.delivery],
        "by_order": known.delivery == "order",
        "higher_is_better": known.higher,
        "structure": _structure(known, metric, fixed),
        "context": frozenset({"sample_weight"} & _parameters(metric)),
        "twin": twin_of_sklearn(metric.__name__, _changed(metric, fixed)),
    }
    if known.torch_equivalent and not fixed:
        entry = table()[known.torch_equivalent]
        options |= {"torch_equivalent": entry.fn, "targets": entry.targets, "structure": Structure("differentiable")}
    return options


def _changed(metric: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    defaults = {name: parameter.default for name, parameter in inspect.signature(metric).parameters.items()}

    def is_default(name: str, value: Any) -> bool:
        default = defaults.get(name, inspect.Parameter.empty)
        return value is default or (type(value) is type(default) and bool(value == default))  # of arrays there is none

    return {name: value for name, value in fixed.items() if not is_default(name, value)}


def _parameters(metric: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(metric).parameters)


def _structure(known: SklearnEntry, metric: Callable[..., Any], fixed: dict[str, Any]) -> Structure | None:
    defaults = {name: p.default for name, p in inspect.signature(metric).parameters.items()}
    given = {**defaults, **fixed}
    if known.delivery == "top_k":
        return Structure("top_k", "all", {"k": given["k"]})
    if known.delivery == "order":
        # micro compares scores across columns
        within = {"within": "all"} if given["average"] == "micro" else _PAIRS.params
        return Structure("positives_over_negatives", "all", within)
    if known.delivery != "labels":
        return known.structure
    if known.exchangeable != "average":
        return Structure("labels", known.exchangeable)  # pyright: ignore[reportArgumentType] (from the table above)
    if given.get("labels") is not None and given["average"] in ("micro", "samples"):
        # of columns of yes or no some are not read, and none stands for another
        return Structure("labels", "column" if given["average"] == "micro" else "none")
    if given["average"] == "micro":  # of columns of yes or no the yeses alone count, of one list both answers
        return Structure("labels", "all", {"two_d": "column"})
    by_average = {"binary": "all", "samples": "row"}
    return Structure("labels", by_average.get(given["average"], "column"))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class SklearnAdapter:
    """The metric, called with targets and scores in the form it documents; an object, so that it can be pickled."""

    metric: Callable[..., Any]
    delivery: Delivery
    takes_labels: bool

    def __call__(self, targets: Any, read: Any, **kwargs: Any) -> Any:
        """Call it on NumPy targets and what the decoder made of the scores."""
        from sklearn.exceptions import UndefinedMetricWarning

        rows_of_classes = read.ndim == targets.ndim + 1
        classes = read.shape[1] if rows_of_classes else 2
        if self.delivery != "regression":
            targets = _integer_labels(targets)
        if rows_of_classes and classes == 2 and self.delivery in _TWO_TO_ONE:
            read, rows_of_classes = _TWO_TO_ONE[self.delivery](read), False
        if self.delivery == "indicator" or (self.delivery == "order" and not self.takes_labels):
            targets, read = _indicator(targets, read, rows_of_classes, self.delivery == "indicator")
        elif self.delivery == "order" and rows_of_classes:
            # it reads the order alone, but asks for rows that sum to one, which log-odds that were moved do not give
            read = _near_uniform(read)
        elif self.delivery == "top_k" and not rows_of_classes:
            # scikit-learn guesses the threshold of one-column scores from their range; of probabilities it is 0.5
            read = _sigmoid(read)
        of_classes = rows_of_classes or (read.ndim == 1 and self.delivery not in ("labels", "order"))
        if self.takes_labels and of_classes and kwargs.get("labels") is None:
            kwargs["labels"] = np.arange(classes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            warnings.filterwarnings("ignore", message="No positive class found")
            return self.metric(targets, read, **kwargs)


_TWO_TO_ONE: dict[str, Callable[[Any], Any]] = {
    "order": lambda read: read[:, 1],
    "probabilities": lambda read: read[:, 1],
    "decision": lambda read: read[:, 1] - read[:, 0],
    "top_k": lambda read: read[:, 1] - read[:, 0],
}
"""One column of two, in the functions that take one where there are two classes."""


def _integer_labels(targets: Any) -> Any:
    """Labels as int64; soft labels are left for scikit-learn to refuse."""
    labels = targets.astype(np.int64)
    return labels if (labels == targets).all() else targets


def _sigmoid(scores: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(scores, dtype=np.float64).clip(-700, 700)))


def _near_uniform(scores: Any) -> Any:
    """``(N, C)`` in the order of the scores, ties kept, with rows that sum to one as closely as scikit-learn asks."""
    levels, place = np.unique(scores, return_inverse=True)
    return (1 + 1e-6 * place.reshape(scores.shape) / len(levels)) / scores.shape[1]


def _indicator(targets: Any, read: Any, rows_of_classes: bool, by_row: bool) -> tuple[Any, Any]:
    """``(N, C)`` targets: one-hot for class indices, and one row for ``(N,)`` scores where rows are ranked."""
    if rows_of_classes:
        return np.eye(read.shape[1], dtype=np.int64)[targets], read
    return (targets[None], read[None]) if read.ndim == 1 and by_row else (targets, read)
