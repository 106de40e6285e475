"""What torchmetrics' metrics are handed and which way is up, under one name for a function and its class.

Names are lower case without underscores and without the task: ``binary_f1_score`` and ``MultilabelF1Score`` are both
``f1score``. What is not here is not known: its direction is asked for, and it is handed what the user says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TorchmetricsEntry:
    """One metric.

    Attributes:
        delivery: what it is handed: labels, ranks in (0, 1), probabilities, or the scores as they are.
        kind: the kind of its structure, or None where it has to be probed.
        higher: the direction.
        within: what is ranked by itself: ``"all"``, ``"row"``, ``"task"`` (columns unless the task is binary), or
            ``"queries"`` (a class takes query groups, a function one query).
        whole_rows: whether all labels of a row count together.
        of_hits: whether, where it has a ``top_k``, it depends on which rows are hits alone, whatever the average.
        with_threshold: whether the function returns (value, threshold).
        task: the task of a metric whose name does not say it.
    """

    delivery: Literal["labels", "order", "probabilities", "scores"]
    kind: str | None
    higher: bool = True
    within: str = "task"
    whole_rows: bool = False
    of_hits: bool = False
    with_threshold: bool = False
    task: str | None = None


_PAIRS = "positives_over_negatives"

KNOWN: dict[str, TorchmetricsEntry] = {
    **{
        name: TorchmetricsEntry("labels", "labels")
        for name in (
            "cohenkappa",
            "f1score",
            "fbetascore",
            "jaccardindex",
            "matthewscorrcoef",
            "negativepredictivevalue",
            "precision",
            "specificity",
        )
    },
    "accuracy": TorchmetricsEntry("labels", "labels", of_hits=True),
    "recall": TorchmetricsEntry("labels", "labels", of_hits=True),
    "hammingdistance": TorchmetricsEntry("labels", "labels", higher=False, of_hits=True),
    "exactmatch": TorchmetricsEntry("labels", "labels", whole_rows=True),
    "auroc": TorchmetricsEntry("order", _PAIRS),
    "averageprecision": TorchmetricsEntry("order", _PAIRS),
    "logauc": TorchmetricsEntry("order", _PAIRS),
    "eer": TorchmetricsEntry("order", _PAIRS, higher=False),
    **{
        name: TorchmetricsEntry("order", _PAIRS, with_threshold=True)
        for name in (
            "precisionatfixedrecall",
            "recallatfixedprecision",
            "sensitivityatspecificity",
            "specificityatsensitivity",
        )
    },
    "coverageerror": TorchmetricsEntry("order", _PAIRS, higher=False, within="row"),
    "rankingaverageprecision": TorchmetricsEntry("order", _PAIRS, within="row"),
    "rankingloss": TorchmetricsEntry("order", _PAIRS, higher=False, within="row"),
    "calibrationerror": TorchmetricsEntry("probabilities", None, higher=False),
    "hingeloss": TorchmetricsEntry("probabilities", "differentiable", higher=False),
    **{
        name: TorchmetricsEntry("order", _PAIRS, within="queries")
        for name in (
            "retrievalauroc",
            "retrievalaverageprecision",
            "retrievalhitrate",
            "retrievalmap",
            "retrievalmrr",
            "retrievalprecision",
            "retrievalrprecision",
            "retrievalrecall",
            "retrievalreciprocalrank",
        )
    },
    "retrievalrecallatfixedprecision": TorchmetricsEntry("order", _PAIRS, within="queries", with_threshold=True),
    "retrievalfallout": TorchmetricsEntry("order", _PAIRS, higher=False, within="queries"),
    "retrievalnormalizeddcg": TorchmetricsEntry("order", "ranking", within="queries"),
    "spearmancorrcoef": TorchmetricsEntry("scores", "ranking", within="all"),
    "kendallrankcorrcoef": TorchmetricsEntry("scores", "ranking", within="all"),
    **{
        name: TorchmetricsEntry("scores", "differentiable")
        for name in (
            "concordancecorrcoef",
            "cosinesimilarity",
            "explainedvariance",
            "pearsoncorrcoef",
            "r2score",
        )
    },
    **{
        name: TorchmetricsEntry("scores", "differentiable", higher=False)
        for name in (
            "logcosherror",
            "meanabsoluteerror",
            "meanabsolutepercentageerror",
            "meansquarederror",
            "meansquaredlogerror",
            "minkowskidistance",
            "normalizedrootmeansquarederror",
            "relativesquarederror",
            "symmetricmeanabsolutepercentageerror",
            "tweediedeviancescore",
            "weightedmeanabsolutepercentageerror",
        )
    },
    "continuousrankedprobabilityscore": TorchmetricsEntry("scores", None, higher=False),
    "criticalsuccessindex": TorchmetricsEntry("scores", None),
}
