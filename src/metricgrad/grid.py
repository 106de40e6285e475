"""The grid: every loss form and every aligner by the name that a file knows it by, and how a file makes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from metricgrad.aligners.base import Aligner
from metricgrad.aligners.fitting.block_fitting import BlockFitting
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.aligners.fitting.value_regression import ValueRegression
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.aligners.static import Static
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.composite.residual import LearnedRate, Residual
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.losses.families.distance_mixture import DistanceMixture
from metricgrad.losses.families.focal_weighting import FocalWeighting
from metricgrad.losses.families.ranking import RankingFamily
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.linearized import Linearized
from metricgrad.losses.interpolated.paper import PaperInterpolated, from_version_0_1
from metricgrad.losses.networks.embeddings import EmbeddingNetwork
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.losses.networks.peaks import PeakNetwork
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.losses.networks.spans import SpanNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork
from metricgrad.metrics.as_metric import stored_metric
from metricgrad.serialization import Headed

T = TypeVar("T")

FORMS: dict[str, type[Form]] = {
    cls.kind: cls
    for cls in (
        Interpolated,
        PaperInterpolated,
        LearnedRate,
        NeuralLoss,
        ProbabilityNetwork,
        Residual,
        SetNetwork,
        HeatmapNetwork,
        PeakNetwork,
        TokenNetwork,
        SpanNetwork,
        RegressionNetwork,
        EmbeddingNetwork,
        ListNetwork,
        DistanceMixture,
        FocalWeighting,
        ClassificationFamily,
        CorrelationMatrix,
        RankingFamily,
        Mix,
        Scaled,
        Anchored,
        Linearized,
    )
}
ALIGNERS: dict[str, type[Aligner]] = {
    cls.kind: cls
    for cls in (
        Static,
        RankCorrelation,
        ValueRegression,
        Policy,
        RandomWalk,
        LookAhead,
    )
}

Half = TypeVar("Half", bound=type[Form] | type[Aligner])


def register(half: Half) -> Half:
    """Let saved losses name a form or an aligner of one's own; a decorator of its class.

    Whoever loads such a loss imports the class first: a file names no code.

    Raises:
        MetricgradError: for anything else, and for a ``kind`` that another class has.
    """
    if not (
        isinstance(half, type) and issubclass(half, Form | Aligner) and isinstance(getattr(half, "kind", None), str)
    ):
        raise MetricgradError(f"{half!r:.60} is no subclass of Form or Aligner with a kind")
    known: dict[str, Any] = FORMS if issubclass(half, Form) else ALIGNERS
    there = known.get(half.kind)
    # a file that is run again, as in a notebook, defines its class anew
    if there is not None and (there.__module__, there.__qualname__) != (half.__module__, half.__qualname__):
        raise MetricgradError(f"kind {half.kind!r} of {half.__name__} is that of {there.__name__}; take another")
    known[half.kind] = half
    return half


def describe(form: Form, aligner: Aligner) -> dict[str, Any]:
    """What :func:`part` makes the two again from, JSON-able.

    Raises:
        MetricgradError: where one of them is none of the known classes, such as a hand-made module.
    """
    described = [form.kind, form.config()]
    foreign = [kind for kind in kinds(described) if kind not in FORMS]
    if foreign or aligner.kind not in ALIGNERS:
        kind = foreign[0] if foreign else aligner.kind
        raise MetricgradError(
            f"a loss with {kind} cannot be saved: decorate a form or an aligner of your own with "
            "metricgrad.grid.register, or build the loss again and load its state_dict"
        )
    return {"form": described, "aligner": [aligner.kind, aligner.config()]}


def part(known: Mapping[str, type[T]], described: Any, file: Headed, loss: Callable[[Any, Headed], Any]) -> T:
    """A form or an aligner from its kind and its config, in which forms and losses may be described in turn.

    Args:
        known: the classes of this sort, by kind.
        described: ``[kind, config]``, as the file has it.
        file: what it is read from.
        loss: builds a loss that serves as an objective, from its header.

    Raises:
        MetricgradError: for anything that does not describe one of the known classes.
    """
    if not (isinstance(described, list) and len(described) == 2 and isinstance(described[0], str)):
        raise file.wrong(f"{described!r:.60} describes no part of a loss; expected [kind, options]")
    kind, config = described
    if kind not in known:
        raise file.wrong(f"{kind!r:.60} is unknown to this version; it knows {', '.join(known)}")
    if not isinstance(config, dict):
        raise file.wrong(f"the options of {kind} are {config!r:.60}; expected them by name")
    if kind == Interpolated.kind:
        kind, config = from_version_0_1(config)
    fits = issubclass(known[kind], BlockFitting)
    options = {
        # a fitted network calls its metric no more
        name: None if fits and name == "metric" and value is file.metric is None else _option(name, value, file, loss)
        for name, value in config.items()
    }
    return file.made(known[kind], options, kind, outlined=issubclass(known[kind], Form))


def _option(name: str, value: Any, file: Headed, loss: Callable[[Any, Headed], Any]) -> Any:
    if name == "metric":
        return stored_metric(value, file.metric)
    if name in ("form", "base") and isinstance(value, list):
        return part(FORMS, value, file, loss)
    if name == "forms" and isinstance(value, list):
        return [part(FORMS, inner, file, loss) for inner in value]
    if name == "objective" and isinstance(value, dict):
        return loss(value, file)
    return value


def kinds(described: list[Any]) -> Iterator[str]:
    """The kinds of a form and of the forms in it."""
    kind, config = described
    yield kind
    inner = [value for name, value in config.items() if name in ("form", "base") and isinstance(value, list)]
    for each in [*inner, *config.get("forms", [])]:
        yield from kinds(each)
