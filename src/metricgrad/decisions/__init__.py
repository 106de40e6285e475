"""Decisions: what turns scores into what a metric of labels reads, chosen on validation data.

A model is a loss form times an aligner, delivered under a decision. Each class is a module ``scores -> scores``;
:func:`metricgrad.fit_decision` chooses among them.
"""

from metricgrad.decisions.base import Decision, Findings, Judged
from metricgrad.decisions.fit import fit_decision
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.kinds import DECISIONS, build, register
from metricgrad.decisions.masks import Masks
from metricgrad.decisions.offsets import Offsets
from metricgrad.decisions.operating_point import AtPrecision, AtRecall
from metricgrad.decisions.ordinal_cuts import OrdinalCuts
from metricgrad.decisions.plug_in import PlugIn
from metricgrad.decisions.threshold import LabelThresholds, Threshold
from metricgrad.decisions.top_k import TopK

__all__ = [
    "DECISIONS", "AtPrecision", "AtRecall", "Decision", "Findings", "Identity", "Judged", "LabelThresholds",
    "Masks", "Offsets", "OrdinalCuts", "PlugIn", "Threshold", "TopK", "build", "fit_decision", "register",
]  # fmt: skip
