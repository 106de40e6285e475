"""Calls of metrics, of what makes them, of refactorings and of the pure functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn.metrics as sk
import torch
import torchmetrics
from torch import Tensor

import metricgrad as mg
from fuzz import truths
from fuzz.call_losses import HUGE, SPECS, for_metric, natural
from fuzz.inputs import Batch, Draws
from metricgrad import functional

BOUNDED = {
    **dict.fromkeys(("mcc", "kappa", "quadratic_kappa", "spearman", "kendall", "pearson"), (-1.0, 1.0)),
    **dict.fromkeys(("mse", "mae", "rmse", "r2", "log_loss", "nll"), (-np.inf, np.inf)),
}


def metric(draws: Draws) -> str:
    """``metric(scores, targets)`` of every built-in metric and of some of scikit-learn and torchmetrics."""
    made = _some_metric(draws)
    batch = for_metric(draws, made)
    value = made(batch.scores, batch.targets, **batch.context)
    _checked(made, value, batch)
    if value.isnan():
        return "undefined"
    if batch.ordinary and len(batch.scores) > 1:
        _same_of_other_rows(draws, made, batch, value)
        if not batch.context:
            _as_scikit_learn(made, batch, value)
    return "value"


def over(draws: Draws) -> str:
    """``metric.over``: as many single calls."""
    made = _some_metric(draws)
    batch = for_metric(draws, made)
    scores = batch.scores
    many = draws.pick("sets", {1: 2, 3: 5, 0: 1})
    parts = [scores, -scores, scores] if isinstance(scores, Tensor) and scores.dtype != torch.bool else [scores] * 3
    stack = draws.handed(torch.stack(parts[:many]) if many and isinstance(scores, Tensor) else scores)
    if many == 0 and isinstance(scores, Tensor):
        stack = scores[None][:0]
    values = made.over(stack, batch.targets, **batch.context)
    truths.require(values.shape == (len(stack),), "over gives another number of values than score sets")
    for one, value in zip(stack, values, strict=True):
        single = made(one, batch.targets, **batch.context)
        truths.require(torch.equal(single, value) or bool(single.isnan() & value.isnan()), "over and one call differ")
    return "value"


def _some_metric(draws: Draws) -> mg.Metric:
    if draws.chance(0.85):
        return mg.as_metric(draws.pick("metric", SPECS))
    name = draws.pick("metric", list(FOREIGN))
    return FOREIGN[name]()


def _dice(labels: Tensor, targets: Tensor) -> Tensor:
    return 2 * ((labels == 1) & (targets == 1)).sum() / ((labels == 1).sum() + (targets == 1).sum()).clamp(min=1)


def _agreement(scores: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean((scores > 0) == (targets > 0)))


def _raises(scores: Tensor, targets: Tensor) -> float:
    raise KeyError("weights")


FOREIGN: dict[str, Callable[[], mg.Metric]] = {
    "sklearn f1": lambda: mg.as_metric(sk.f1_score, average="macro", zero_division=0.0),
    "sklearn auroc": lambda: mg.as_metric(sk.roc_auc_score),
    "sklearn ap": lambda: mg.as_metric(sk.average_precision_score),
    "sklearn log loss": lambda: mg.as_metric(sk.log_loss),
    "sklearn mse": lambda: mg.as_metric(sk.mean_squared_error),
    "torchmetrics f1": lambda: mg.as_metric(torchmetrics.F1Score(task="multiclass", num_classes=4, average="macro")),
    "torchmetrics auroc": lambda: mg.as_metric(torchmetrics.AUROC(task="binary")),
    "torchmetrics accuracy": lambda: mg.as_metric(torchmetrics.functional.accuracy, task="multiclass", num_classes=4),
    "dice of labels": lambda: mg.as_metric(_dice, higher_is_better=True, reads="labels"),
    "agreement in NumPy": lambda: mg.as_metric(_agreement, higher_is_better=True, inputs="numpy"),
    "text for a value": lambda: mg.as_metric(lambda s, t: "good", higher_is_better=True),
    "a value for each row": lambda: mg.as_metric(lambda s, t: s, higher_is_better=True),
    "None": lambda: mg.as_metric(lambda s, t: None, higher_is_better=True),
    "raises": lambda: mg.as_metric(_raises, higher_is_better=True),
    "writes": lambda: mg.as_metric(lambda s, t: s.zero_().sum() if s.numel() else 0.0, higher_is_better=True),
    "complex": lambda: mg.as_metric(lambda s, t: 1j, higher_is_better=True),
}


def _checked(made: mg.Metric, value: Tensor, batch: Batch) -> None:
    truths.require(isinstance(value, Tensor) and value.ndim == 0, "the value is no 0-d tensor")
    wide = isinstance(batch.scores, Tensor) and batch.scores.dtype == torch.float64
    wide |= bool(value.isfinite() and value.abs() > torch.finfo(torch.float32).max)
    truths.require(value.dtype == (torch.float64 if wide else torch.float32), f"the value has dtype {value.dtype}")
    truths.require(not value.requires_grad, "the value has a graph")
    if made.batched and not value.isnan():
        low, high = BOUNDED.get(made.name.partition(":")[0], (0.0, np.inf))
        truths.require(low - 1e-6 <= float(value) <= high + 1e-6, "the value is out of its range")


def _same_of_other_rows(draws: Draws, made: mg.Metric, batch: Batch, value: Tensor) -> None:
    scores, targets, context = batch.scores, batch.targets, batch.context
    if any(part.shape[:1] != scores.shape[:1] for part in context.values()):
        return
    order = torch.randperm(len(scores), generator=draws.generator)
    moved = {name: part[order] for name, part in context.items()}
    truths.require(truths.close(made(scores[order], targets[order], **moved), value, 1e-5), "rows in another order")
    truths.require(truths.close(made(scores.double(), targets, **context).float(), value, 1e-4), "float64 differs")
    kept = torch.rand(len(scores), generator=draws.generator) < 0.7
    if "mask" in context or not bool(kept.any()):
        return
    dropped = {name: part[kept] for name, part in context.items()}
    try:
        less = made(scores[kept], targets[kept], **dropped)
        masked = made(scores, targets, **context, mask=kept)
    except mg.MetricgradError:
        return  # weights may all be 0 there, queries gone
    both = less.isnan() & masked.isnan()
    truths.require(both or truths.close(masked, less, 1e-5), "a mask is not as leaving rows out")
    if "sample_weight" in made.context and not context and targets.ndim == 1 and "groups" not in made.context:
        twice = made(torch.cat([scores, scores[kept]]), torch.cat([targets, targets[kept]]))
        weighed = made(scores, targets, sample_weight=1.0 + kept.float())
        truths.require(truths.close(weighed, twice, 1e-5), "a weight of 2 is not as a row twice")


def _as_scikit_learn(made: mg.Metric, batch: Batch, value: Tensor) -> None:
    """The same number as scikit-learn's, where it has the metric."""
    if made.name not in ORACLES or batch.kind not in ("one score", "one column", "classes", "two classes", "values"):
        return
    scores, targets = batch.scores.double().squeeze(-1).numpy(), batch.targets.reshape(-1).numpy()
    elementwise = scores.shape == targets.shape
    labels = (scores > 0).astype(int) if elementwise else scores.argmax(-1)
    if made.reads != "labels" and (not elementwise or len(np.unique(targets)) < 2):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ORACLES[made.name](targets, labels if made.reads == "labels" else scores, not elementwise)
    truths.require(np.isclose(float(value), expected, atol=1e-5, equal_nan=True), "scikit-learn has another value")


ORACLES: dict[str, Callable[[Any, Any, bool], float]] = {
    "accuracy": lambda t, p, many: float(sk.accuracy_score(t, p)),
    "mcc": lambda t, p, many: float(sk.matthews_corrcoef(t, p)),
    "auroc": lambda t, p, many: float(sk.roc_auc_score(t, p)),
    "average_precision": lambda t, p, many: float(sk.average_precision_score(t, p)),
    "mse": lambda t, p, many: float(sk.mean_squared_error(t, p)),
    "mae": lambda t, p, many: float(sk.mean_absolute_error(t, p)),
    "r2": lambda t, p, many: float(sk.r2_score(t, p)),
}


def as_metric(draws: Draws) -> str:
    """``mg.as_metric`` of names, specs, callables and what is none of them, with options in and out of range."""
    things: list[Any] = [
        *SPECS, "AP", "roc_auc", "f1_score", "", " ", "f1:", "f1:beta", "f1:beta=x", "recall_at_k:k=-1", "a:b:c",
        "a.b:c", "math:fsum", "recall_at_k:k=10**9", "ndcg:k=0", "fbeta:beta=-1", "fbeta:beta=nan",
        "top_k_accuracy:k=None",
        sk.f1_score, sk.roc_auc_score, sk.confusion_matrix, sk.make_scorer(sk.f1_score), torchmetrics.Accuracy,
        torchmetrics.AUROC(task="binary"), torchmetrics.functional.f1_score, torch.nn.MSELoss(), torch.nn.Sigmoid(),
        _dice, print, len, None, 3, 1j, [], {}, b"f1", object(), mg.as_metric("f1"), float, "mse:higher_is_better=True",
    ]  # fmt: skip
    thing = draws.random.choice(things)
    draws.said["metric"] = repr(thing)[:80]
    options = draws.some(
        {
            "higher_is_better": [True, False, 1, "yes"], "reads": ["scores", "labels", "probabilities", "logits", 3],
            "inputs": ["torch", "numpy", "jax"], "order": ["scores_first", "targets_first", "any"],
            "name": ["mine", "", 3], "average": ["macro", "none"], "beta": [2.0, -1.0], "k": [2, 0, "two"],
        },
        0.12,
    )  # fmt: skip
    made = mg.as_metric(thing, **options)
    repr(made), made.undescribed(), made.worst, made.is_better(0.5, 0.25)
    if not (made.batched or made.structure):
        return "value"
    batch = draws.batch(natural(made), trouble=0.0, context=False)
    made(batch.scores, batch.targets)
    return "value"


def refactoring(draws: Draws) -> str:
    """``mg.infer_refactoring`` and every method that it documents."""
    made = mg.as_metric(draws.pick("metric", SPECS)) if draws.chance(0.8) else _some_metric(draws)
    if draws.chance(0.08):
        made = made.undescribed()
    batch = for_metric(draws, made)
    found = mg.infer_refactoring(made, batch.scores, batch.targets, **batch.context)
    truths.require(isinstance(found.report(), str) and found.report(), "the report is empty")
    groups = {name: part for name, part in batch.context.items() if name == "groups"}
    method = draws.pick("method", ["comparisons", "binaries", "scores_from", "ideal", "spread", "random"])
    scores, targets = batch.scores.detach(), batch.targets
    if method == "random":
        drawn = found.random(scores, targets, 2, draws.generator)
        truths.require(drawn.shape == (2, *scores.shape), "random scores have another shape")
    elif method == "ideal":
        best = found.ideal(scores, targets, 2, draws.generator, **groups)
        truths.require(best.shape == (2, *scores.shape), "ideal scores have another shape")
        if batch.ordinary and not batch.context and scores.numel():
            reached, now = made.over(best.double(), targets), made(scores, targets)
            sign = 1 if made.higher_is_better else -1
            truths.require(not (sign * (reached - now) < -1e-6).any(), "ideal scores are worse than random ones")
    elif method == "scores_from":
        bits = found.binaries(scores, targets, **groups)
        again = found.scores_from(bits, scores, targets, **groups)
        truths.require(again.shape == scores.shape, "scores from binaries have another shape")
        truths.require(again.isfinite().all() or not scores.isfinite().all(), "scores from binaries are not finite")
        same = torch.equal(found.binaries(again, targets, **groups), bits)
        by_odds = getattr(found, "odds", False)  # those of one class move all others: the nearest, and it warns
        truths.require(same or by_odds or not batch.ordinary, "binaries do not survive the way to scores and back")
    else:
        made_of = getattr(found, method)(scores, targets, **groups)
        truths.require(isinstance(made_of, Tensor), f"{method} gives no tensor")
        if (
            scores.is_floating_point()
            and made_of.is_floating_point()
            and scores.isfinite().all()
            and made_of.numel()
            and _held(batch)
        ):
            truths.require(made_of.isfinite().all(), f"{method} of finite scores are not finite")
    return "value"


def _held(batch: Batch) -> bool:
    """Whether there are scores, whose differences their dtype holds."""
    return batch.scores.numel() > 0 and not any(trait in batch.traits for trait in HUGE)


def functions(draws: Draws) -> str:
    """``mg.functional``: ranks and correlations, soft and hard."""
    name = draws.pick("function", functional.__all__)
    kinds = ["one score", "classes", "images", "none", "one column"]
    x = draws.batch(kinds, context=False)
    if name in ("spearman", "kendall"):
        other = draws.batch(kinds, context=False) if draws.chance(0.2) else x
        b = other.scores if other is not x else x.targets if isinstance(x.targets, Tensor) else x.scores
        soft = draws.pick("soft", {None: 3, 1.0: 3, 1e-40: 1, 1e30: 1, 0.0: 1, -1.0: 1, "x": 0.5})
        if isinstance(x.scores, Tensor) and isinstance(b, Tensor) and x.scores.shape != b.shape and draws.chance(0.8):
            b = draws.handed(x.scores.detach().clone())
        return _differentiable(draws, lambda s: getattr(functional, name)(s, b, soft), x, bounded=soft is None)
    if name == "hard_rank":
        ranks = functional.hard_rank(x.scores)
        truths.require(ranks.shape == x.scores.shape, "ranks have another shape")
        return "value"
    options: dict[str, Any] = {}
    if name == "soft_rank":
        options = draws.some(
            {"strength": [1.0, 1e-3, 1e3, 1e-40, 1e30, 0.0, -1.0, float("nan"), "x"],
             "regularisation": ["entropic", "l2"]},
            0.4,
        )  # fmt: skip
    else:
        options = draws.some({"steepness": [1.0, 100.0, 1e-3, 1e30, 0.0, -1.0, float("nan"), "x"]}, 0.4)
    return _differentiable(draws, lambda s: getattr(functional, name)(s, **options), x)


def _differentiable(draws: Draws, function: Callable[[Tensor], Tensor], batch: Batch, *, bounded: bool = False) -> str:
    x = batch.scores
    leaf = x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() and not x.is_sparse else x
    found = function(leaf)
    if bounded and found.numel() and found.isfinite().all():
        truths.require((found.abs() <= 1 + 1e-6).all(), "a correlation beyond 1")
    if not found.is_floating_point() or not leaf.isfinite().all():
        return "value"
    if not found.isfinite().all():
        truths.require(bounded or x.shape[-1] < 2, "finite numbers give a value that is not finite")
        return "undefined"
    if found.requires_grad and found.numel():
        weights = torch.rand(found.shape, generator=draws.generator).to(found)
        (slope,) = torch.autograd.grad((found * weights).sum(), leaf)
        truths.require(slope.isfinite().all(), "the gradient is not finite")
        truths.require(
            slope.dtype == leaf.dtype and slope.shape == leaf.shape, "the gradient has another dtype or shape"
        )
    return "value"
