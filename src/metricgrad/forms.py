"""The left half of the grid: every loss form by its class name, and ``Form``, which they are subclasses of.

Example:
    >>> import metricgrad as mg
    >>> mg.Loss(mg.forms.NeuralLoss(), mg.aligners.LookAhead()).form.kind
    'neural'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metricgrad.lazy_names import lazy_names

if TYPE_CHECKING:
    from metricgrad.losses.base import Form as Form
    from metricgrad.losses.composite.anchored import Anchored as Anchored
    from metricgrad.losses.composite.hand_made import HandMade as HandMade
    from metricgrad.losses.composite.mix import Mix as Mix
    from metricgrad.losses.composite.residual import LearnedRate as LearnedRate
    from metricgrad.losses.composite.residual import Residual as Residual
    from metricgrad.losses.composite.scaled import Scaled as Scaled
    from metricgrad.losses.families.classification import ClassificationFamily as ClassificationFamily
    from metricgrad.losses.families.correlation_matrix import CorrelationMatrix as CorrelationMatrix
    from metricgrad.losses.families.distance_mixture import DistanceMixture as DistanceMixture
    from metricgrad.losses.families.focal_weighting import FocalWeighting as FocalWeighting
    from metricgrad.losses.families.ranking import RankingFamily as RankingFamily
    from metricgrad.losses.interpolated.interpolated import Interpolated as Interpolated
    from metricgrad.losses.interpolated.linearized import Linearized as Linearized
    from metricgrad.losses.interpolated.paper import PaperInterpolated as PaperInterpolated
    from metricgrad.losses.networks.embeddings import EmbeddingNetwork as EmbeddingNetwork
    from metricgrad.losses.networks.heat_maps import HeatmapNetwork as HeatmapNetwork
    from metricgrad.losses.networks.lists import ListNetwork as ListNetwork
    from metricgrad.losses.networks.neural import NeuralLoss as NeuralLoss
    from metricgrad.losses.networks.peaks import PeakNetwork as PeakNetwork
    from metricgrad.losses.networks.probabilities import ProbabilityNetwork as ProbabilityNetwork
    from metricgrad.losses.networks.sets import SetNetwork as SetNetwork
    from metricgrad.losses.networks.spans import SpanNetwork as SpanNetwork
    from metricgrad.losses.networks.tokens import TokenNetwork as TokenNetwork
    from metricgrad.losses.networks.values import RegressionNetwork as RegressionNetwork

_IMPORT_PATH = {
    "Anchored": "metricgrad.losses.composite.anchored",
    "ClassificationFamily": "metricgrad.losses.families.classification",
    "CorrelationMatrix": "metricgrad.losses.families.correlation_matrix",
    "DistanceMixture": "metricgrad.losses.families.distance_mixture",
    "EmbeddingNetwork": "metricgrad.losses.networks.embeddings",
    "FocalWeighting": "metricgrad.losses.families.focal_weighting",
    "Form": "metricgrad.losses.base",
    "HandMade": "metricgrad.losses.composite.hand_made",
    "HeatmapNetwork": "metricgrad.losses.networks.heat_maps",
    "Interpolated": "metricgrad.losses.interpolated.interpolated",
    "LearnedRate": "metricgrad.losses.composite.residual",
    "Linearized": "metricgrad.losses.interpolated.linearized",
    "ListNetwork": "metricgrad.losses.networks.lists",
    "Mix": "metricgrad.losses.composite.mix",
    "NeuralLoss": "metricgrad.losses.networks.neural",
    "PaperInterpolated": "metricgrad.losses.interpolated.paper",
    "PeakNetwork": "metricgrad.losses.networks.peaks",
    "ProbabilityNetwork": "metricgrad.losses.networks.probabilities",
    "RankingFamily": "metricgrad.losses.families.ranking",
    "RegressionNetwork": "metricgrad.losses.networks.values",
    "Residual": "metricgrad.losses.composite.residual",
    "Scaled": "metricgrad.losses.composite.scaled",
    "SetNetwork": "metricgrad.losses.networks.sets",
    "SpanNetwork": "metricgrad.losses.networks.spans",
    "TokenNetwork": "metricgrad.losses.networks.tokens",
}

__getattr__, __dir__ = lazy_names(__name__, _IMPORT_PATH)
