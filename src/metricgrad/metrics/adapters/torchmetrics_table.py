"""What torchmetrics' metrics are fed and which way is up, under one name for a function and its class.

Names are lower case without underscores and without the task: ``binary_f1_score`` and ``MultilabelF1Score`` are both
``f1score``. What is not here is not known: its direction is asked for, and it is handed what the person says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Entry:
    """One metric.

    Attributes:
        feed: what it is handed: labels, ranks in (0, 1), probabilities, or the scores as they are.
        kind: the kind of its structure, or None where it has to be probed.
        higher: the direction.
        within: what is ranked by itself: ``"all"``, ``"row"``, ``"auto"`` (query groups), or ``"task"`` (columns unless
            the task is binary).
        whole_rows: whether all labels of a row count together.
        with_threshold: whether the function returns (value, threshold).
        task: the task of a metric whose name does not say it.
    """

    feed: Literal["labels", "order", "probabilities", "scores"]
    kind: str | None
    higher: bool = True
    within: str = "task"
    whole_rows: bool = False
    with_threshold: bool = False
    task: str | None = None


_PAIRS = "positives_over_negatives"

KNOWN: dict[str, Entry] = {
    **{
        name: Entry("labels", "labels")
        for name in (
            "accuracy",
            "cohenkappa",
            "f1score",
            "fbetascore",
            "jaccardindex",
            "matthewscorrcoef",
            "negativepredictivevalue",
            "precision",
            "recall",
            "specificity",
        )
    },
    "hammingdistance": Entry("labels", "labels", higher=False),
    "exactmatch": Entry("labels", "labels", whole_rows=True),
    "auroc": Entry("order", _PAIRS),
    "averageprecision": Entry("order", _PAIRS),
    "logauc": Entry("order", _PAIRS),
    "eer": Entry("order", _PAIRS, higher=False),
    **{
        name: Entry("order", _PAIRS, with_threshold=True)
        for name in (
            "precisionatfixedrecall",
            "recallatfixedprecision",
            "sensitivityatspecificity",
            "specificityatsensitivity",
        )
    },
    "coverageerror": Entry("order", _PAIRS, higher=False, within="row"),
    "rankingaverageprecision": Entry("order", _PAIRS, within="row"),
    "rankingloss": Entry("order", _PAIRS, higher=False, within="row"),
    "calibrationerror": Entry("probabilities", None, higher=False),
    "hingeloss": Entry("probabilities", "differentiable", higher=False),
    **{
        name: Entry("order", _PAIRS, within="all")
        for name in (
            "retrievalauroc",
            "retrievalaverageprecision",
            "retrievalhitrate",
            "retrievalprecision",
            "retrievalrprecision",
            "retrievalrecall",
            "retrievalreciprocalrank",
        )
    },
    "retrievalfallout": Entry("order", _PAIRS, higher=False, within="all"),
    "retrievalnormalizeddcg": Entry("order", "ranking", within="all"),
    "spearmancorrcoef": Entry("scores", "ranking", within="all"),
    "kendallrankcorrcoef": Entry("scores", "ranking", within="all"),
    **{
        name: Entry("scores", "differentiable")
        for name in (
            "concordancecorrcoef",
            "cosinesimilarity",
            "explainedvariance",
            "pearsoncorrcoef",
            "r2score",
        )
    },
    **{
        name: Entry("scores", "differentiable", higher=False)
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
    "continuousrankedprobabilityscore": Entry("scores", None, higher=False),
    "criticalsuccessindex": Entry("scores", None),
}

OBJECTS: dict[str, Entry] = {
    **{
        name: Entry("order", _PAIRS, within="auto")
        for name in (
            "retrievalauroc",
            "retrievalhitrate",
            "retrievalmap",
            "retrievalmrr",
            "retrievalprecision",
            "retrievalrprecision",
            "retrievalrecall",
        )
    },
    "retrievalrecallatfixedprecision": Entry("order", _PAIRS, within="auto", with_threshold=True),
    "retrievalfallout": Entry("order", _PAIRS, higher=False, within="auto"),
    "retrievalnormalizeddcg": Entry("order", "ranking", within="auto"),
}
"""Entries of classes that differ from the function's: the retrieval classes take query groups."""
