"""Writes docs/inference.md: what probing finds in scikit-learn's and torchmetrics' metrics.

Run ``.venv/bin/python docs/generate_inference_table.py``. The tests run the same cases and compare each finding with
the one expected here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics as sk
import torch
import torchmetrics.functional as tm
from torch import Tensor
from torchmetrics.functional import retrieval as rt

from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.probing.probe import Finding, describe, probe

CLASSES = 5
LABELS = 4


def binary() -> tuple[Tensor, Tensor]:
    """``(N,)`` scores, 30 % positives."""
    targets = (torch.rand(80, generator=torch.Generator().manual_seed(1)) < 0.3).long()
    return torch.zeros(80), targets


def classes() -> tuple[Tensor, Tensor]:
    """``(N, C)`` scores and class indices."""
    return torch.zeros(60, CLASSES), torch.randint(CLASSES, (60,), generator=torch.Generator().manual_seed(2))


def multilabel() -> tuple[Tensor, Tensor]:
    """``(N, C)`` scores and zeros and ones."""
    targets = torch.rand(40, LABELS, generator=torch.Generator().manual_seed(3)) < 0.4
    return torch.zeros(40, LABELS), targets.long()


def graded() -> tuple[Tensor, Tensor]:
    """``(N, C)`` scores and gains of 0 to 3."""
    return torch.zeros(30, 6), torch.randint(4, (30, 6), generator=torch.Generator().manual_seed(4))


def graded_list() -> tuple[Tensor, Tensor]:
    """``(N,)`` scores and gains of 0 to 3."""
    return torch.zeros(40), torch.randint(4, (40,), generator=torch.Generator().manual_seed(5))


def real() -> tuple[Tensor, Tensor]:
    """``(N,)`` scores and real targets."""
    return torch.zeros(50), torch.randn(50, generator=torch.Generator().manual_seed(6))


SHAPES: dict[Callable[[], tuple[Tensor, Tensor]], str] = {
    binary: "(N,) / (N,) of 0, 1",
    classes: "(N, C) / (N,) classes",
    multilabel: "(N, C) / (N, C) of 0, 1",
    graded: "(N, C) / (N, C) gains",
    graded_list: "(N,) / (N,) gains",
    real: "(N,) / (N,) real",
}


@dataclass(frozen=True)
class Case:
    """One metric, as a plain callable, and what is expected to be found."""

    name: str
    source: str
    data: Callable[[], tuple[Tensor, Tensor]]
    reads: str
    fn: Callable[..., Any]
    expected: str

    @property
    def metric(self) -> Metric:
        """The callable with its decoder and order of arguments, and nothing else said of it."""
        numpy = self.source != "torchmetrics"
        return as_metric(
            self.fn,
            higher_is_better=True,  # plays no part in probing
            reads=self.reads,  # pyright: ignore[reportArgumentType] (one of the three, by the table below)
            inputs="numpy" if numpy else "torch",
            order="targets_first" if numpy else "scores_first",
            name=self.name,
        ).undescribed()

    def find(self) -> Finding:
        """Probe it."""
        return probe(self.metric, *self.data())


@functools.cache
def findings() -> tuple[tuple[Case, Finding], ...]:
    """Every case with what probing finds."""
    return tuple((case, case.find()) for case in CASES)


def _sk(fn: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda targets, scores: fn(targets, scores, **fixed)


def _tm(fn: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda scores, targets: fn(scores, targets, **fixed)


def _precision_at_1(targets: Any, scores: Any) -> float:
    return float(np.take_along_axis(targets, scores.argmax(1)[:, None], 1).mean())


def _numpy_log_loss(targets: Any, p: Any) -> float:
    return float(-(targets * np.log(p) + (1 - targets) * np.log1p(-p)).mean())


def _numpy_calibration_error(targets: Any, p: Any) -> float:
    bins = np.minimum((p * 10).astype(int), 9)
    gaps = [abs(p[bins == b].sum() - targets[bins == b].sum()) for b in range(10)]
    return float(np.sum(gaps) / len(p))


ALL, BY_COLUMN, BY_ROW = ("labels, exchangeable: all", "labels, exchangeable: column", "labels, exchangeable: row")
PAIRS = "positives_over_negatives, within={}, exchangeable: {}"
RANKING = "ranking, within={}, exchangeable: {}"
NOTHING = "nothing"
C, L = {"num_classes": CLASSES}, {"num_labels": LABELS}

CASES = [
    Case("F1", "scikit-learn", binary, "labels", _sk(sk.f1_score), ALL),
    Case("F1", "torchmetrics", binary, "probabilities", _tm(tm.classification.binary_f1_score), ALL),
    Case("accuracy", "scikit-learn", binary, "labels", _sk(sk.accuracy_score), ALL),
    Case("accuracy", "torchmetrics", binary, "probabilities", _tm(tm.classification.binary_accuracy), ALL),
    Case("balanced accuracy", "scikit-learn", binary, "labels", _sk(sk.balanced_accuracy_score), ALL),
    Case("MCC", "scikit-learn", binary, "labels", _sk(sk.matthews_corrcoef), ALL),
    Case("MCC", "torchmetrics", binary, "probabilities", _tm(tm.classification.binary_matthews_corrcoef), ALL),
    Case("kappa", "scikit-learn", binary, "labels", _sk(sk.cohen_kappa_score), ALL),
    Case("kappa", "torchmetrics", binary, "probabilities", _tm(tm.classification.binary_cohen_kappa), ALL),
    Case("Jaccard", "scikit-learn", binary, "labels", _sk(sk.jaccard_score), ALL),
    Case("Jaccard", "torchmetrics", binary, "probabilities", _tm(tm.classification.binary_jaccard_index), ALL),
    Case("macro-F1", "scikit-learn", classes, "labels", _sk(sk.f1_score, average="macro"), ALL),
    Case("macro-F1", "torchmetrics", classes, "probabilities", _tm(tm.classification.multiclass_f1_score, **C), ALL),
    Case("accuracy", "scikit-learn", classes, "labels", _sk(sk.accuracy_score), ALL),
    Case("accuracy", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_accuracy, average="micro", **C), ALL),
    Case("balanced accuracy", "scikit-learn", classes, "labels", _sk(sk.balanced_accuracy_score), ALL),
    Case("balanced accuracy", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_accuracy, average="macro", **C), ALL),
    Case("MCC", "scikit-learn", classes, "labels", _sk(sk.matthews_corrcoef), ALL),
    Case("MCC", "torchmetrics", classes, "scores", _tm(tm.classification.multiclass_matthews_corrcoef, **C), ALL),
    Case("kappa", "scikit-learn", classes, "labels", _sk(sk.cohen_kappa_score), ALL),
    Case("quadratic kappa", "scikit-learn", classes, "labels", _sk(sk.cohen_kappa_score, weights="quadratic"), ALL),
    Case("kappa", "torchmetrics", classes, "scores", _tm(tm.classification.multiclass_cohen_kappa, **C), ALL),
    Case("Jaccard", "scikit-learn", classes, "labels", _sk(sk.jaccard_score, average="macro"), ALL),
    Case("Jaccard", "torchmetrics", classes, "scores", _tm(tm.classification.multiclass_jaccard_index, **C), ALL),
    Case("micro-F1", "scikit-learn", multilabel, "labels", _sk(sk.f1_score, average="micro"), ALL),
    Case("micro-F1", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_f1_score, average="micro", **L), ALL),
    Case("macro-F1", "scikit-learn", multilabel, "labels", _sk(sk.f1_score, average="macro"), BY_COLUMN),
    Case("macro-F1", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_f1_score, **L), BY_COLUMN),
    Case("weighted F1", "scikit-learn", multilabel, "labels", _sk(sk.f1_score, average="weighted"), BY_COLUMN),
    Case("samples-F1", "scikit-learn", multilabel, "labels",
         _sk(sk.f1_score, average="samples", zero_division=0.0), BY_ROW),
    Case("Jaccard", "scikit-learn", multilabel, "labels", _sk(sk.jaccard_score, average="macro"), BY_COLUMN),
    Case("Jaccard", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_jaccard_index, **L), BY_COLUMN),
    Case("MCC", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_matthews_corrcoef, **L), ALL),
    Case("Hamming loss", "scikit-learn", multilabel, "labels", _sk(sk.hamming_loss), ALL),
    Case("accuracy", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_accuracy, average="micro", **L), ALL),
    Case("exact match", "scikit-learn", multilabel, "labels", _sk(sk.accuracy_score), BY_ROW),
    Case("exact match", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_exact_match, **L), BY_ROW),
    Case("top-2 accuracy", "scikit-learn", classes, "scores",
         _sk(sk.top_k_accuracy_score, k=2, labels=range(CLASSES)), "top_k, k=2, exchangeable: all"),
    Case("top-2 accuracy", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_accuracy, top_k=2, average="micro", **C), "top_k, k=2, exchangeable: all"),
    Case("top-3 accuracy", "torchmetrics", classes, "scores",
         _tm(tm.classification.multiclass_accuracy, top_k=3, average="macro", **C), "top_k, k=3, exchangeable: all"),
    Case("AUROC", "scikit-learn", binary, "probabilities", _sk(sk.roc_auc_score), PAIRS.format("all", "all")),
    Case("AUROC", "torchmetrics", binary, "probabilities",
         _tm(tm.classification.binary_auroc), PAIRS.format("all", "all")),
    Case("AUROC, one against the rest", "scikit-learn", classes, "probabilities",
         _sk(sk.roc_auc_score, multi_class="ovr"), PAIRS.format("column", "none")),
    Case("AUROC, one against the rest", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_auroc, **C), PAIRS.format("column", "none")),
    Case("AUROC, one against one", "scikit-learn", classes, "probabilities",
         _sk(sk.roc_auc_score, multi_class="ovo"), PAIRS.format("column", "none")),
    Case("AUROC", "scikit-learn", multilabel, "probabilities", _sk(sk.roc_auc_score), PAIRS.format("column", "all")),
    Case("AUROC", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_auroc, **L), PAIRS.format("column", "all")),
    Case("micro-AUROC", "scikit-learn", multilabel, "probabilities",
         _sk(sk.roc_auc_score, average="micro"), PAIRS.format("all", "all")),
    Case("AP", "scikit-learn", binary, "probabilities",
         _sk(sk.average_precision_score), PAIRS.format("all", "all")),
    Case("AP", "torchmetrics", binary, "probabilities",
         _tm(tm.classification.binary_average_precision), PAIRS.format("all", "all")),
    Case("AP, one against the rest", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_average_precision, **C), PAIRS.format("column", "none")),
    Case("AP", "scikit-learn", multilabel, "probabilities",
         _sk(sk.average_precision_score), PAIRS.format("column", "all")),
    Case("AP", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_average_precision, **L), PAIRS.format("column", "all")),
    *(
        Case(name, "torchmetrics", binary, reads, _tm(fn, **fixed), PAIRS.format("all", "all"))
        for name, reads, fn, fixed in (
            ("precision@5", "probabilities", rt.retrieval_precision, {"top_k": 5}),
            ("recall@10", "probabilities", rt.retrieval_recall, {"top_k": 10}),
            ("hit rate@3", "probabilities", rt.retrieval_hit_rate, {"top_k": 3}),
            ("MAP", "probabilities", rt.retrieval_average_precision, {}),
            ("MRR", "probabilities", rt.retrieval_reciprocal_rank, {}),
            ("NDCG", "probabilities", rt.retrieval_normalized_dcg, {}),
            ("R-precision", "probabilities", rt.retrieval_r_precision, {}),
            ("fall-out@10", "probabilities", rt.retrieval_fall_out, {"top_k": 10}),
            ("AUROC of a query", "probabilities", rt.retrieval_auroc, {}),
        )
    ),
    Case("MAP of raw scores", "torchmetrics", binary, "scores", _tm(rt.retrieval_average_precision), NOTHING),
    Case("NDCG", "torchmetrics", graded_list, "scores", _tm(rt.retrieval_normalized_dcg), RANKING.format("all", "all")),
    Case("NDCG", "scikit-learn", graded, "scores", _sk(sk.ndcg_score), RANKING.format("row", "all")),
    Case("NDCG@3", "scikit-learn", graded, "scores", _sk(sk.ndcg_score, k=3), RANKING.format("row", "all")),
    Case("NDCG", "scikit-learn", multilabel, "scores", _sk(sk.ndcg_score), PAIRS.format("row", "all")),
    Case("precision@1", "own NumPy", multilabel, "scores", _precision_at_1, PAIRS.format("row", "all")),
    Case("label ranking AP", "scikit-learn", multilabel, "scores",
         _sk(sk.label_ranking_average_precision_score), PAIRS.format("row", "all")),
    Case("label ranking AP", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_ranking_average_precision, **L), PAIRS.format("row", "all")),
    Case("coverage error", "scikit-learn", multilabel, "scores", _sk(sk.coverage_error), PAIRS.format("row", "all")),
    Case("coverage error", "torchmetrics", multilabel, "probabilities",
         _tm(tm.classification.multilabel_coverage_error, **L), PAIRS.format("row", "all")),
    Case("ranking loss", "scikit-learn", multilabel, "scores", _sk(sk.label_ranking_loss), PAIRS.format("row", "all")),
    Case("Spearman", "torchmetrics", real, "scores", _tm(tm.spearman_corrcoef), RANKING.format("all", "none")),
    Case("Kendall", "torchmetrics", real, "scores", _tm(tm.kendall_rank_corrcoef), RANKING.format("all", "none")),
    Case("Spearman", "torchmetrics", graded_list, "scores",
         lambda s, t: tm.spearman_corrcoef(s, t.to(s)), RANKING.format("all", "all")),
    Case("calibration error", "torchmetrics", binary, "probabilities",
         _tm(tm.classification.binary_calibration_error), NOTHING),
    Case("calibration error", "torchmetrics", classes, "probabilities",
         _tm(tm.classification.multiclass_calibration_error, **C), NOTHING),
    Case("calibration error", "own NumPy", binary, "probabilities", _numpy_calibration_error, NOTHING),
    Case("log-loss", "scikit-learn", binary, "probabilities", _sk(sk.log_loss), NOTHING),
    Case("log-loss", "scikit-learn", classes, "probabilities", _sk(sk.log_loss, labels=range(CLASSES)), NOTHING),
    Case("log-loss", "own NumPy", binary, "probabilities", _numpy_log_loss, NOTHING),
    Case("MSE", "scikit-learn", real, "scores", _sk(sk.mean_squared_error), NOTHING),
    Case("MSE", "torchmetrics", real, "scores", _tm(tm.mean_squared_error), "differentiable"),
    Case("MAE", "torchmetrics", real, "scores", _tm(tm.mean_absolute_error), "differentiable"),
    Case("Pearson", "torchmetrics", real, "scores", _tm(tm.pearson_corrcoef), "differentiable"),
    Case("hinge loss", "torchmetrics", binary, "probabilities",
         _tm(tm.classification.binary_hinge_loss), "differentiable"),
]  # fmt: skip


_INTRO = """# What probing finds

Written by `docs/generate_inference_table.py`; the tests run the same cases.

A built-in metric, and most of scikit-learn's and torchmetrics', carry a description of what they read from the scores.
Any other callable is probed once, on the first batch. It is called on synthetic scores for that batch's targets, from
ideal over corrupted and random to upside down, and on redraws of them that keep one reading and change everything else.
The first reading below that no redraw breaks is the finding, and decides what UniLoss interpolates over:

1. **labels**: the side of 0 of each entry, or the argmax of each row. *exchangeable* says which entries of equal target
   and prediction may change places: all, those of one column (macro averages), those of one row, or none.
2. **top_k**: whether the target is among the k largest of its row.
3. **positives_over_negatives**: the comparisons of positives with negatives, within a row, a column, a query group or
   altogether. For class probabilities the columns are those of a softmax.
4. **ranking**: the order, within the same lists. For targets other than 0 and 1 it is the only order looked for.
5. **differentiable**: a torch metric whose gradient, integrated along a path, accounts for the change of its value.

An invariance counts only on score sets where the metric varies; a metric that is constant on all of them is refused,
and so is one for which nothing holds. `infer_refactoring(metric, scores, targets).report()` lists what was tried, and
so does the error.

Below, each metric is a plain callable of which only the decoder (`reads`) and the order of arguments are known.
"calls" is how often it was called; the limit is 200.

"""

_NOTES = """
- For class targets, columns are not tried for exchange: "none" there means that no moves are shared. For targets that
  all differ there is nothing to exchange.
- torchmetrics' retrieval functions count an item with a score of 0 or below as irrelevant, so on raw scores some are no
  metrics of an order, and probing finds that out. On probabilities they are.
- The log-losses and the MSE of NumPy arrays are refused, with the name of the built-in that has their values and a
  gradient.
"""


def page() -> str:
    """The text of docs/inference.md."""
    lines = ["| metric | source | scores / targets | reads | found | calls |", "| --- | --- | --- | --- | --- | --- |"]
    for case, finding in findings():
        cells = (case.name, case.source, SHAPES[case.data], case.reads, describe(finding.structure), str(finding.calls))
        lines.append(f"| {' | '.join(cells)} |")
    return _INTRO + "\n".join(lines) + "\n" + _NOTES


if __name__ == "__main__":
    Path(__file__).with_name("inference.md").write_text(page())
