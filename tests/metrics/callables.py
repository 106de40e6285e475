"""Real metrics of scikit-learn and torchmetrics, each with a batch it is for and how it wants to see the scores.

``delivery`` names what the test hands to the bare function: the adapter must come to the same value from raw scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sklearn.metrics as sk
import torchmetrics.functional as tf
import torchmetrics.functional.classification as tc
import torchmetrics.functional.regression as tg
import torchmetrics.functional.retrieval as tr


@dataclass(frozen=True)
class Case:
    """One callable: ``kind`` of batch, ``delivery``, direction, kind of structure and its one telling value."""

    fn: Callable[..., Any]
    kind: str
    delivery: str
    higher: bool = True
    structure: str | None = "labels"
    tells: object = "all"
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For pytest."""
        return "-".join([self.fn.__name__, self.kind, *(f"{k}={v}" for k, v in self.fixed.items())])


PAIRS = "positives_over_negatives"
C = {"num_classes": 4}
L = {"num_labels": 4}

SKLEARN = [
    Case(sk.accuracy_score, "binary", "labels", tells="row"),
    Case(sk.accuracy_score, "multiclass", "labels", tells="row"),
    Case(sk.accuracy_score, "multilabel", "labels", tells="row"),
    Case(sk.balanced_accuracy_score, "multiclass", "labels"),
    Case(sk.f1_score, "binary", "labels"),
    Case(sk.f1_score, "multiclass", "labels", tells="column", fixed={"average": "macro"}),
    Case(sk.f1_score, "multilabel", "labels", fixed={"average": "micro"}),
    Case(sk.f1_score, "multilabel", "labels", tells="row", fixed={"average": "samples"}),
    Case(sk.fbeta_score, "binary", "labels", fixed={"beta": 2.0}),
    Case(sk.precision_score, "binary", "labels"),
    Case(sk.recall_score, "multiclass", "labels", tells="column", fixed={"average": "weighted"}),
    Case(sk.jaccard_score, "multilabel", "labels", tells="column", fixed={"average": "macro"}),
    Case(sk.matthews_corrcoef, "multiclass", "labels"),
    Case(sk.cohen_kappa_score, "multiclass", "labels", fixed={"weights": "quadratic"}),
    Case(sk.zero_one_loss, "multilabel", "labels", higher=False, tells="row"),
    Case(sk.hamming_loss, "multilabel", "labels", higher=False),
    Case(sk.adjusted_rand_score, "multiclass", "labels"),
    Case(sk.v_measure_score, "multiclass", "labels"),
    Case(sk.average_precision_score, "binary", "scores", structure=PAIRS, tells="auto"),
    Case(sk.average_precision_score, "multilabel", "scores", structure=PAIRS, tells="auto"),
    Case(sk.average_precision_score, "multilabel", "scores", structure=PAIRS, fixed={"average": "micro"}),
    Case(sk.average_precision_score, "multiclass", "probabilities", structure=PAIRS, tells="auto"),
    Case(sk.roc_auc_score, "binary", "scores", structure=PAIRS, tells="auto"),
    Case(sk.roc_auc_score, "multilabel", "scores", structure=PAIRS, tells="auto"),
    Case(sk.roc_auc_score, "multiclass", "probabilities", structure=PAIRS, tells="auto", fixed={"multi_class": "ovr"}),
    Case(sk.roc_auc_score, "multiclass", "probabilities", structure=PAIRS, tells="auto", fixed={"multi_class": "ovo"}),
    Case(sk.ndcg_score, "multilabel", "scores", structure="ranking", tells="auto"),
    Case(sk.ndcg_score, "lists", "scores", structure="ranking", tells="auto", fixed={"k": 2}),
    Case(sk.dcg_score, "lists", "scores", structure="ranking", tells="auto"),
    Case(sk.label_ranking_average_precision_score, "multilabel", "scores", structure=PAIRS, tells="row"),
    Case(sk.coverage_error, "multilabel", "scores", higher=False, structure=PAIRS, tells="row"),
    Case(sk.label_ranking_loss, "multilabel", "scores", higher=False, structure=PAIRS, tells="row"),
    Case(sk.top_k_accuracy_score, "multiclass", "scores", structure="top_k", tells=2),
    Case(sk.top_k_accuracy_score, "multiclass", "scores", structure="top_k", tells=3, fixed={"k": 3}),
    Case(sk.top_k_accuracy_score, "binary", "probabilities", structure="top_k", tells=1, fixed={"k": 1}),
    Case(sk.log_loss, "binary", "probabilities", higher=False, structure="differentiable"),
    Case(sk.log_loss, "multiclass", "probabilities", higher=False, structure="differentiable"),
    Case(sk.brier_score_loss, "binary", "probabilities", higher=False, structure=None),
    Case(sk.brier_score_loss, "multiclass", "probabilities", higher=False, structure=None),
    Case(sk.d2_brier_score, "binary", "probabilities", structure=None),
    Case(sk.hinge_loss, "binary", "scores", higher=False, structure=None),
    Case(sk.hinge_loss, "multiclass", "scores", higher=False, structure=None),
    Case(sk.mean_squared_error, "real", "scores", higher=False, structure="differentiable"),
    Case(sk.mean_absolute_error, "real", "scores", higher=False, structure="differentiable"),
    Case(sk.r2_score, "real", "scores", structure="differentiable"),
    Case(sk.root_mean_squared_error, "real", "scores", higher=False, structure=None),
    Case(sk.median_absolute_error, "real", "scores", higher=False, structure=None),
    Case(sk.explained_variance_score, "real", "scores", structure=None),
]

TORCHMETRICS = [
    Case(tc.binary_accuracy, "binary", "labels"),
    Case(tc.binary_f1_score, "binary", "labels"),
    Case(tc.binary_fbeta_score, "binary", "labels", fixed={"beta": 2.0}),
    Case(tc.binary_precision, "binary", "labels"),
    Case(tc.binary_recall, "binary", "labels"),
    Case(tc.binary_specificity, "binary", "labels"),
    Case(tc.binary_negative_predictive_value, "binary", "labels"),
    Case(tc.binary_jaccard_index, "binary", "labels"),
    Case(tc.binary_matthews_corrcoef, "binary", "labels"),
    Case(tc.binary_cohen_kappa, "binary", "labels"),
    Case(tc.binary_hamming_distance, "binary", "labels", higher=False),
    Case(tc.binary_auroc, "binary", "probabilities", structure=PAIRS),
    Case(tc.binary_auroc, "binary", "probabilities", structure=PAIRS, fixed={"max_fpr": 0.5}),
    Case(tc.binary_auroc, "binary", "probabilities", structure=None, fixed={"thresholds": 7}),
    Case(tc.binary_average_precision, "binary", "probabilities", structure=PAIRS),
    Case(tc.binary_logauc, "binary", "probabilities", structure=PAIRS),
    Case(tc.binary_eer, "binary", "probabilities", higher=False, structure=PAIRS),
    Case(tc.binary_recall_at_fixed_precision, "binary", "probabilities", structure=PAIRS, fixed={"min_precision": 0.5}),
    Case(tc.binary_precision_at_fixed_recall, "binary", "probabilities", structure=PAIRS, fixed={"min_recall": 0.5}),
    Case(
        tc.binary_sensitivity_at_specificity,
        "binary",
        "probabilities",
        structure=PAIRS,
        fixed={"min_specificity": 0.5},
    ),
    Case(tc.binary_calibration_error, "binary", "probabilities", higher=False, structure=None),
    Case(tc.binary_hinge_loss, "binary", "probabilities", higher=False, structure="differentiable"),
    Case(tc.multiclass_accuracy, "multiclass", "labels", fixed=C),
    Case(tc.multiclass_accuracy, "multiclass", "scores", structure="top_k", tells=2, fixed=C | {"top_k": 2}),
    Case(tc.multiclass_f1_score, "multiclass", "labels", fixed=C),
    Case(tc.multiclass_jaccard_index, "multiclass", "labels", fixed=C),
    Case(tc.multiclass_cohen_kappa, "multiclass", "labels", fixed=C | {"weights": "quadratic"}),
    Case(tc.multiclass_matthews_corrcoef, "multiclass", "labels", fixed=C),
    Case(tc.multiclass_auroc, "multiclass", "probabilities", structure=PAIRS, tells="column", fixed=C),
    Case(tc.multiclass_average_precision, "multiclass", "probabilities", structure=PAIRS, tells="column", fixed=C),
    Case(tc.multiclass_calibration_error, "multiclass", "probabilities", higher=False, structure=None, fixed=C),
    Case(tc.multiclass_hinge_loss, "multiclass", "probabilities", higher=False, structure="differentiable", fixed=C),
    Case(tc.multilabel_f1_score, "multilabel", "labels", tells="column", fixed=L),
    Case(tc.multilabel_f1_score, "multilabel", "labels", fixed=L | {"average": "micro"}),
    Case(tc.multilabel_accuracy, "multilabel", "labels", tells="column", fixed=L),
    Case(tc.multilabel_exact_match, "multilabel", "labels", tells="row", fixed=L),
    Case(tc.multilabel_hamming_distance, "multilabel", "labels", higher=False, tells="column", fixed=L),
    Case(tc.multilabel_auroc, "multilabel", "probabilities", structure=PAIRS, tells="column", fixed=L),
    Case(tc.multilabel_auroc, "multilabel", "probabilities", structure=PAIRS, fixed=L | {"average": "micro"}),
    Case(tc.multilabel_average_precision, "multilabel", "probabilities", structure=PAIRS, tells="column", fixed=L),
    Case(tc.multilabel_ranking_average_precision, "multilabel", "probabilities", structure=PAIRS, tells="row", fixed=L),
    Case(tc.multilabel_ranking_loss, "multilabel", "probabilities", False, PAIRS, "row", L),
    Case(tc.multilabel_coverage_error, "multilabel", "probabilities", False, PAIRS, "row", L),
    Case(tf.f1_score, "binary", "labels", fixed={"task": "binary"}),
    Case(tf.accuracy, "multiclass", "labels", fixed=C | {"task": "multiclass"}),
    Case(tf.auroc, "multiclass", "probabilities", structure=PAIRS, tells="column", fixed=C | {"task": "multiclass"}),
    Case(tr.retrieval_average_precision, "binary", "probabilities", structure=PAIRS),
    Case(tr.retrieval_reciprocal_rank, "binary", "probabilities", structure=PAIRS),
    Case(tr.retrieval_recall, "binary", "probabilities", structure=PAIRS, fixed={"top_k": 3}),
    Case(tr.retrieval_precision, "binary", "probabilities", structure=PAIRS, fixed={"top_k": 3}),
    Case(tr.retrieval_hit_rate, "binary", "probabilities", structure=PAIRS, fixed={"top_k": 3}),
    Case(tr.retrieval_fall_out, "binary", "probabilities", higher=False, structure=PAIRS, fixed={"top_k": 3}),
    Case(tr.retrieval_normalized_dcg, "graded", "probabilities", structure="ranking"),
    Case(tg.spearman_corrcoef, "real", "scores", structure="ranking"),
    Case(tg.kendall_rank_corrcoef, "real", "scores", structure="ranking"),
    Case(tg.mean_squared_error, "real", "scores", higher=False, structure="differentiable"),
    Case(tg.mean_absolute_error, "real", "scores", higher=False, structure="differentiable"),
    Case(tg.r2_score, "real", "scores", structure="differentiable"),
    Case(tg.pearson_corrcoef, "real", "scores", structure="differentiable"),
    Case(tg.concordance_corrcoef, "real", "scores", structure="differentiable"),
    Case(tg.log_cosh_error, "real", "scores", higher=False, structure="differentiable"),
    Case(tg.explained_variance, "real", "scores", structure="differentiable"),
]
