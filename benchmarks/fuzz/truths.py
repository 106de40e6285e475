"""What must hold of a value whatever the loss or metric: finite, blind to the order of rows, 0 where it is ideal."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from fuzz.inputs import Batch
from fuzz.watch import Untrue

Context = Mapping[str, Any]


def require(holds: bool | Tensor, otherwise: str) -> None:
    """Raise Untrue where something does not hold."""
    if not bool(holds):
        raise Untrue(otherwise)


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree relative to the larger of 1 and the second's size."""
    a, b = a.detach().double(), b.detach().double()
    return bool(((a - b).abs() <= tolerance * b.abs().amax().clamp(min=1.0)).all()) if a.numel() else True


def same_again(loss: nn.Module, scores: Tensor, targets: Tensor, context: Context, what: str) -> tuple[Tensor, Tensor]:
    """Value and gradient of a loss as it was before the call that is checked; it may not refuse this one."""
    leaf = scores.detach().clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = loss(leaf, targets, **context)
        except mg.MetricgradError as error:
            raise Untrue(f"{what} are refused: {str(error)[:80]}") from error
        (slope,) = torch.autograd.grad(value, leaf, allow_unused=True) if value.requires_grad else (None,)
    return value, torch.zeros_like(leaf) if slope is None else slope


def finite(value: Tensor, slope: Tensor | None, scores: Tensor, *, wide: bool = False) -> None:
    """A loss is 0-d, in the dtype of the scores (float32 for half precision), finite, and so is its gradient.

    Where ``wide``, it may be in float64: a squared error of 1e38 is no number of float32.
    """
    half = scores.dtype in (torch.float16, torch.bfloat16)
    require(isinstance(value, Tensor) and value.ndim == 0, "the value is no 0-d tensor")
    expected = {torch.float32 if half else scores.dtype, *([torch.float64] if wide else [])}
    require(value.dtype in expected, f"{scores.dtype} scores: value {value.dtype}")
    require(value.isfinite(), "the value is not finite")
    if slope is not None:
        require(slope.dtype == scores.dtype and slope.shape == scores.shape, "the gradient has another dtype or shape")
        require(slope.isfinite().all(), "the gradient is not finite")


def of_rows(loss: nn.Module, batch: Batch, value: Tensor, slope: Tensor, generator: torch.Generator) -> None:
    """The order of rows changes nothing, and carries the gradient along."""
    scores, targets, context = batch.scores.detach(), batch.targets, batch.context
    order = torch.randperm(len(scores), generator=generator)
    moved = {name: part[order] for name, part in context.items()}
    again, turned = same_again(loss, scores[order], targets[order], moved, "rows in another order")
    tolerance = _tolerance(scores)
    require(close(again, value, tolerance), "the order of rows moves the value")
    require(close(turned, slope[order], tolerance), "the order of rows moves the gradient")


def of_masks(loss: nn.Module, batch: Batch, generator: torch.Generator) -> None:
    """Rows left out by a mask count as if they were not there, and have no gradient."""
    scores, targets = batch.scores.detach(), batch.targets
    kept = torch.rand(len(scores), generator=generator) < 0.7
    kept[0] = True
    context = {name: part for name, part in batch.context.items() if name != "mask"}
    dropped = {name: part[kept] for name, part in context.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy.deepcopy(loss)(scores[kept], targets[kept], **dropped)
            copy.deepcopy(loss)(scores, targets, **context, mask=kept)
    except mg.MetricgradError:
        return  # it takes no mask, or not these rows alone
    bare, slope = same_again(copy.deepcopy(loss), scores[kept], targets[kept], dropped, "kept rows")
    value, masked = same_again(loss, scores, targets, {**context, "mask": kept}, "masked rows")
    tolerance = _tolerance(scores)
    require(close(value, bare, tolerance), "a mask is not as leaving rows out")
    require(close(masked[kept], slope, tolerance), "a mask moves the gradient of the rows that stay")
    require((masked[~kept] == 0).all(), "rows that are left out have a gradient")


def of_dtypes(loss: nn.Module, batch: Batch, value: Tensor, slope: Tensor) -> None:
    """In float64 nothing else comes out."""
    wide, turned = same_again(loss, batch.scores.double(), batch.targets, batch.context, "float64 scores")
    require(close(value, wide, 2e-3), "float32 and float64 have other values")
    require(close(slope, turned, 1e-2), "float32 and float64 have other gradients")


def of_ideal(metric: mg.Metric, batch: Batch, value: Tensor, slope: Tensor) -> None:
    """An interpolated metric is 0 where the metric is ideal alone, within its range, and teaches everywhere else."""
    scores, targets, context = batch.scores.detach(), batch.targets, batch.context
    refactoring = mg.infer_refactoring(metric, scores, targets, **context)
    if (
        refactoring.name == "differentiable"
        or "mask" in context
        or "groups" in context
        or metric.layout.name == "sentences"
    ):
        return
    try:
        best = refactoring.ideal(scores.double(), targets, 1, torch.Generator().manual_seed(0))[0]
    except mg.MetricgradError:
        return
    ideal, now = float(metric(best, targets, **context)), float(metric(scores.double(), targets, **context))
    if ideal != ideal or now != now:
        return
    missing = (ideal - now) * (1 if metric.higher_is_better else -1)
    if missing > 1e-6:
        require(value > 0, "the loss is 0 and the metric not ideal")
        require((slope != 0).any(), "a metric that is not ideal has no gradient, and nobody says so")
    elif abs(missing) <= 1e-12:
        require(abs(float(value)) < 1.5, "the metric is ideal and the loss beyond its range")


def _tolerance(scores: Tensor) -> float:
    return 1e-6 if scores.dtype == torch.float64 else 1e-3
