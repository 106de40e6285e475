"""Built-in functions of the value that scikit-learn and torchmetrics compute, where there is one.

A twin is what a loss is trained on in place of a function that takes one set of scores at a time. Whoever does so looks
now and then whether the two agree (:class:`metricgrad.losses.interpolated.linearized.Linearized`), so that a mistake
here, or another version of the library, costs time and not rightness.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metricgrad.metrics.built_in import table
from metricgrad.metrics.families import counts
from metricgrad.metrics.families.class_sums import (
    ACCURACY,
    BALANCED_ACCURACY,
    ENTRIES,
    INTERSECTION_OVER_UNION,
    KAPPA,
    MCC,
    MCC_OF_TWO,
    MEAN_RECALL,
    PRECISION,
    RECALL,
    SPECIFICITY,
    FScore,
    Score,
    averaged,
)
from metricgrad.metrics.fast_paths import FastPath, Missing
from metricgrad.metrics.of_counts import MeanOverPositives
from metricgrad.metrics.of_labels import OfGrades, OfLabels, complement
from metricgrad.metrics.of_pairs import OfPairs
from metricgrad.metrics.of_ranks import DiscountedGain, RankCorrelation

#: of each label of rows that may have several, and of all of them
_OF_LABELS: dict[str, OfLabels] = {
    "accuracy": OfLabels(of_list=ENTRIES),
    "hammingdistance": OfLabels(of_list=complement(ENTRIES)),
    "specificity": OfLabels(of_list=SPECIFICITY),
}
_ANY = 2**31  # however many grades there are, their numbers are what they are worth
_AVERAGES = ("binary", "macro", "micro", "weighted", "samples")

_SKLEARN: dict[str, FastPath | str] = {
    "accuracy_score": ACCURACY,
    "balanced_accuracy_score": BALANCED_ACCURACY,
    "hamming_loss": complement(ENTRIES),
    "zero_one_loss": complement(ACCURACY),
    "matthews_corrcoef": MCC,
    "roc_auc_score": MeanOverPositives(
        counts.auroc, "halves", by_place=False, missing="nan", items_weigh=True, needs_negatives=True
    ),
    "average_precision_score": MeanOverPositives(
        counts.average_precision, "together", missing="zero", items_weigh=True
    ),
}
_TORCHMETRICS = {"auroc": "auroc", "averageprecision": "average_precision"}
#: of queries, and of the first k items of each
_QUERIES = {"retrievalmap": "map", "retrievalmrr": "mrr"}
_FIRST_ITEMS = {
    "retrievalprecision": counts.precision_at_k, "retrievalrecall": counts.recall_at_k,
    "retrievalhitrate": counts.hit_rate,
}  # fmt: skip
_EMPTY: dict[object, Missing] = {"neg": "zero", "skip": "skipped"}
_OVER_COLUMNS = ("macro", "weighted")
_OF_COLUMNS = (("average", "micro"), ("multi_class", "ovr"))
_LEFT_ALONE = {
    "ignore_index": (None,), "threshold": (None, 0.5), "thresholds": (None,), "top_k": (None, 1), "max_fpr": (None,),
    "multidim_average": ("global",), "zero_division": (0,),
}  # fmt: skip


def twin_of_sklearn(name: str, changed: Mapping[str, Any]) -> FastPath | None:
    """The twin of a function of ``sklearn.metrics``, or None.

    Args:
        name: of the function.
        changed: its options that are not its defaults.
    """
    rest = dict(changed)
    if (score := _score(name.removesuffix("_score"), rest.pop("beta", 1.0))) is not None:
        average = rest.pop("average", "binary")
        return None if rest or average not in _AVERAGES else averaged(score, average)
    found = _SKLEARN.get(name)
    if isinstance(found, MeanOverPositives):
        if rest.get("average") == "weighted":
            del rest["average"]
            found = replace(found, by_support=True, missing="skipped")  # a class without positives weighs nothing
        rest = {option: value for option, value in rest.items() if (option, value) not in _OF_COLUMNS}
    if name == "ndcg_score":
        return None if rest.keys() - {"k"} else _ndcg(rest.get("k"))
    if name == "cohen_kappa_score":
        found = {None: KAPPA, "quadratic": OfGrades("ordered")}.get(rest.pop("weights", None))
    return None if rest else _path(found)


def twin_of_torchmetrics(base: str, task: str | None, options: Mapping[str, Any]) -> FastPath | None:
    """The twin of a function or an object of torchmetrics, or None.

    Args:
        base: its name without the task; see :mod:`metricgrad.metrics.adapters.torchmetrics_table`.
        task: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        options: how it is set.
    """
    if base.startswith("retrieval"):
        return _of_queries(base, options)
    if base == "spearmancorrcoef":
        return RankCorrelation() if options.get("num_outputs", 1) == 1 else None
    if base == "kendallrankcorrcoef":
        alone = options.get("num_outputs", 1) == 1 and options.get("variant", "b") == "b"
        return OfPairs() if alone else None
    changed = any(options.get(name, known[0]) not in known for name, known in _LEFT_ALONE.items())
    if base in _TORCHMETRICS and not changed:
        pooled = task == "multilabel" and options.get("average") == "micro"
        path, average = _path(_TORCHMETRICS[base]), options.get("average")
        if not isinstance(path, MeanOverPositives) or not (task == "binary" or pooled or average in _OVER_COLUMNS):
            return None
        skips = task == "multiclass" and base == "averageprecision"
        return replace(path, missing="skipped" if skips else "zero", by_support=average == "weighted")
    if task is None or changed:
        return None
    average = "binary" if task == "binary" else str(options.get("average"))
    score = _score(base.removesuffix("score").removesuffix("index"), options.get("beta", 1.0))
    if task == "multilabel":
        if base == "exactmatch":
            return ACCURACY
        if score is not None:
            return averaged(score, average) if average in ("macro", "micro", "weighted") else None
        return _OF_LABELS.get(base) if average in ("macro", "micro") else None
    if base == "matthewscorrcoef":
        return MCC_OF_TWO if task == "binary" or options.get("num_classes") == 2 else MCC
    if base == "cohenkappa":
        return {None: KAPPA, "quadratic": OfGrades(classes=_ANY)}.get(options.get("weights"))
    if average not in _AVERAGES:
        return None
    if base in ("accuracy", "hammingdistance"):
        right = MEAN_RECALL if average == "macro" else ENTRIES
        return right if base == "accuracy" else complement(right)
    if base == "specificity" and task == "binary":
        return SPECIFICITY
    return None if score is None else averaged(score, average)


def _of_queries(base: str, options: Mapping[str, Any]) -> FastPath | None:
    missing, k = _EMPTY.get(options.get("empty_target_action", "neg")), options.get("top_k")
    if missing is None or options.get("aggregation", "mean") != "mean" or options.get("adaptive_k", False):
        return None
    if base == "retrievalnormalizeddcg":
        return _ndcg(k) if missing == "zero" else None
    if base in _FIRST_ITEMS and k is not None:
        at = functools.partial(_FIRST_ITEMS[base], k=k)
        return MeanOverPositives(at, "negatives_first", missing=missing)
    path = _path(_QUERIES[base]) if base in _QUERIES and k is None else None
    if not isinstance(path, MeanOverPositives):
        return None
    return replace(path, missing=missing, ties="negatives_first")  # of ties the order of the data decides there


def _ndcg(k: int | None) -> FastPath:
    gain = functools.partial(counts.ndcg, k=k)
    return MeanOverPositives(gain, "mean_of_ranks", by_gain=DiscountedGain(k), missing="zero")


def _score(name: str, beta: float) -> Score | None:
    known = {"precision": PRECISION, "recall": RECALL, "jaccard": INTERSECTION_OVER_UNION, "f1": FScore()}
    return FScore(beta) if name == "fbeta" else known.get(name)


def _path(found: FastPath | str | None) -> FastPath | None:
    path = table()[found].fast_path if isinstance(found, str) else found
    return path if isinstance(path, FastPath) else None
