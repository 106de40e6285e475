"""Calls of losses: the metric itself interpolated, every cell of the grid, and every loss by name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from tests.contract.registry import LOSSES
from torch import Tensor, nn

import metricgrad as mg
from fuzz import truths
from fuzz.inputs import KINDS_OF, Batch, Draws
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.aligners.fitting.value_regression import ValueRegression
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.aligners.static import Static
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.systems.by_name import find, list_losses, make_loss

SPECS = [
    *mg.list_metrics(), "fbeta:beta=2.0,average=macro", "fbeta:average=micro", "fbeta:average=samples", "ndcg:k=3",
    "jaccard:average=macro", "recall_at_k:k=2", "top_k_accuracy:k=2", "quadratic_kappa:num_classes=4",
]  # fmt: skip
ROWS = ["one score", "one column", "classes", "two classes", "labels", "gains", "values", "steps", "images"]
NATURAL = {
    "maps": ["heat maps"], "sentences": ["steps"], "spans": ["answer spans"], "embeddings": ["embeddings"],
    "rows": ROWS, "given": ROWS,
}  # fmt: skip
OPTIONS: dict[str, list[Any]] = {
    "interpolation": ["local", "inverse_distance", "cubic", None],
    "softness": [1.0, 0.01, 50.0, 1e-40, 1e30, 0.0, -1.0, "auto", "once", "often", float("nan"), float("inf"), None],
    "q": [1.0, 0.5, 1e-3, 0.0, 2.0, float("nan"), "half"],
    "share": [1.0, 0.5, 0.01, 0.0, 1.5, None],
    "warm_up": [0, 1, 3, -1, 2.5, "all"],
    "anchors": [1, 4, 16, 0, -3, 2.5],
    "flips": [1, 2, 50, 0, None],
    "power": [1.0, 3.0, 0.0, -1.0, float("inf")],
    "calls": [1, 7, 48, 500, 0, -1],
    "paper": [True, False, "published", "released", "draft"],
    "gradient": ["true", "released", "false"],
    "check_finite": [True, False],
    "seed": [0, 1, 2**40, -1, "x"],
    "reduction": ["mean"],
}


def natural(metric: mg.Metric) -> list[str]:
    """The kinds of batches that a metric reads."""
    if metric.name not in _READS:
        kinds = NATURAL[metric.layout.name]
        _READS[metric.name] = [kind for kind in kinds if _reads(metric, kind)] if metric.batched else kinds
    return _READS[metric.name]


_READS: dict[str, list[str]] = {}


def _reads(metric: mg.Metric, kind: str) -> bool:
    try:
        metric(*KINDS_OF[kind](24, torch.Generator().manual_seed(0)))
    except mg.MetricgradError:
        return False
    return True


def for_metric(draws: Draws, metric: mg.Metric, *, stored: bool = False) -> Batch:
    """Mostly what it may read, now and then anything; of what is ``stored``, as many rows as a fit takes."""
    kinds = None if draws.chance(0.1) else natural(metric)
    if stored:
        return draws.batch(kinds, trouble=0.2, context=draws.chance(0.15), sizes=(40, 64, 90))
    return draws.batch(kinds)


def uniloss(draws: Draws) -> str:
    """``mg.UniLoss`` of every built-in metric, known or probed."""
    metric = mg.as_metric(draws.pick("metric", SPECS))
    usual = {"interpolation": ["local", "inverse_distance"]}
    options = draws.some(OPTIONS, 0.04) if draws.chance(0.5) else draws.some(usual, 0.4)
    if draws.chance(0.04):
        metric = metric.undescribed()
        draws.said["undescribed"] = True
    batch = for_metric(draws, metric)
    return called(draws, mg.UniLoss(metric, **options), batch, metric)


def of_registry(draws: Draws) -> str:
    """Every form at its usual settings with every aligner it is used with."""
    name = draws.pick("loss", list(LOSSES))
    make, data = LOSSES[name]
    if draws.chance(0.5):
        scores, targets = data(draws.pick("rows", [2, 5, 16, 40]), torch.float32)
        batch = Batch("its own", draws.handed(scores), draws.handed(targets), {})
    else:
        batch = draws.batch()
    return called(draws, make(), batch)


def of_catalogue(draws: Draws) -> str:
    """Every loss by name."""
    metric = mg.as_metric(draws.pick("metric", SPECS))
    name = draws.pick("loss", list_losses())
    made = find(name)[0]
    spaces: dict[str, list[Any]] = {
        "softness": [0.1, 1.0, 1e-40, 1e40, 0.0, -1.0], "gamma": [0.0, 2.0, -1.0, 1e3], "margin": [0.2, -1.0, 1e9],
        "label_smoothing": [0.1, 1.0, 2.0], "sigma": [1.0, 0.0, -1.0, 1e-30], "weighting": ["balanced", "none"],
    }  # fmt: skip
    spaces = {option: values for option, values in spaces.items() if made.accepts(option) or draws.chance(0.1)}
    options = draws.some(spaces, 0.15)
    batch = for_metric(draws, metric)
    if options.get("softness") == 1e-40:  # scores in units of it are beyond float32
        batch.traits.append("softness: 1e-40")
    return called(draws, make_loss(name, metric, **options), batch)


def of_grid(draws: Draws) -> str:
    """Every form times every aligner times every metric."""
    metric = mg.as_metric(draws.pick("metric", SPECS))
    forms: dict[str, Callable[[], Any]] = {
        **{name: (lambda make=make: make().form) for name, (make, _) in LOSSES.items()},
        "matrix of 4": lambda: CorrelationMatrix(4),
        "family of 4": lambda: ClassificationFamily(4),
        "map network of 5 by 6": lambda: HeatmapNetwork(size=(5, 6)),
        "tokens of 3": lambda: TokenNetwork(positions=3),
        "hand-made": lambda: HandMade(nn.CrossEntropyLoss()),
        "mix with the metric": lambda: Mix([mg.UniLoss(metric).form, ClassificationFamily()]),
        "the metric, scaled": lambda: Scaled(mg.UniLoss(metric).form),
        "no form": lambda: nn.CrossEntropyLoss(),
    }
    aligners: dict[str, Callable[[], Any]] = {
        "none": lambda: None, "static": Static, "correlation": lambda: RankCorrelation(metric),
        "value": lambda: ValueRegression(metric), "policy": lambda: Policy(metric),
        "walk": lambda: RandomWalk(metric), "look-ahead": LookAhead,
        "toward the metric": lambda: LookAhead(objective=mg.UniLoss(metric)), "no aligner": lambda: "policy",
    }  # fmt: skip
    loss = mg.Loss(forms[draws.pick("form", list(forms))](), aligners[draws.pick("aligner", list(aligners))]())
    return called(draws, loss, for_metric(draws, metric))


#: Scores whose squares, or whose sums, float32 does not hold: what a loss of them is there, torch's own are too.
HUGE = ("scores: 1e20", "scores: 1e38", "scores: 3e38", "softness: 1e-40")


def called(draws: Draws, loss: nn.Module, batch: Batch, metric: mg.Metric | None = None) -> str:
    """One call of a loss, its gradient, and what must hold of both."""
    mode = draws.pick("mode", {"training": 8, "no_grad": 1, "inference": 0.5, "eval": 1, "twice": 1})
    scores = batch.scores
    if isinstance(scores, Tensor) and scores.is_floating_point() and not scores.is_sparse and mode != "inference":
        scores = scores.detach().requires_grad_(mode != "no_grad")
    loss.train(mode != "eval")
    before = copy.deepcopy(loss)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with torch.inference_mode(mode == "inference"), torch.set_grad_enabled(mode not in ("no_grad", "inference")):
            value = loss(scores, batch.targets, **batch.context)
            if mode == "twice":
                value = loss(scores, batch.targets, **batch.context)
    for one in heard:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    hopeless = any("NaN" in trait or "infin" in trait for trait in batch.traits)
    if hopeless and not value.isfinite():
        return "undefined"  # NaN goes through where check_finite lets it, and is seen by everybody
    if not scores.is_floating_point():
        truths.require(value.isfinite(), "the value is not finite")
        return "value"
    slope = None
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value, scores)
    if slope is not None and not slope.isfinite().all() and hopeless:
        return "undefined"
    if metric is None or not isinstance(getattr(loss, "form", None), Interpolated):
        broken = not value.isfinite() or (slope is not None and not slope.isfinite().all())
        if broken and any(trait in batch.traits for trait in HUGE):
            return "overflow"
    huge = any(trait in batch.traits for trait in HUGE)
    truths.finite(value, slope, scores, wide=huge)
    if mode != "training" or slope is None or hopeless:
        return "value"
    silent = any("undefined" in str(one.message) or "same value" in str(one.message) for one in heard)
    plain = all(trait.startswith(("few", "targets: all", "dtype: torch.float64")) for trait in batch.traits)
    drawn = _drawn(loss)
    shaped = all(isinstance(part, Tensor) and part.shape[:1] == scores.shape[:1] for part in batch.context.values())
    few = getattr(loss, "name", "") != "SmoothAPLoss" and (not hasattr(loss, "form") or scores.numel() <= 48)
    if plain and shaped and len(scores) > 1 and few and not drawn:
        truths.of_rows(copy.deepcopy(before), batch, value, slope, draws.generator)
        truths.of_masks(copy.deepcopy(before), batch, draws.generator)
    if (
        plain
        and few
        and scores.dtype == torch.float32
        and not drawn
        and "softness" not in draws.said
        and not _sided(loss)
    ):
        truths.of_dtypes(copy.deepcopy(before), batch, value, slope)
    usual = not draws.said.get("paper") and draws.said.get("softness") in (None, 1.0, "once", "auto")
    if metric is not None and usual and not (silent or hopeless or draws.said.get("warm_up")) and len(scores):
        truths.of_ideal(metric, batch, value, slope)
    return "undefined" if silent else "value"


def _sided(loss: nn.Module) -> bool:
    """Whether it draws the side that its moves begin on, by a hash of rows that another dtype changes."""
    forms = [part for part in loss.modules() if isinstance(part, Interpolated)]
    return any(form.metric.reads == "labels" or form.metric.structure is None for form in forms)


def _drawn(loss: nn.Module) -> bool:
    """Whether a loss draws at random among rows or decisions, so that a rounding may lead it elsewhere."""
    forms = [part for part in loss.modules() if isinstance(part, Interpolated)]
    return any(form.interpolation != "local" or form.calls < 48 or form.share < 1 for form in forms)
