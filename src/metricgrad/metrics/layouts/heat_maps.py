"""Batches of heat maps: ``(..., H, W)`` scores with one target point ``(..., 2)`` for each map, as rows of maps.

Points are ``(x, y)``: x counts columns and y rows, in pixels of the map, with the centre of the first pixel at (0, 0).
Leading axes are free, such as images and joints, ``(N, J, H, W)`` with ``(N, J, 2)``. A ``mask`` shaped like them, or
like the first of them, leaves maps out: joints that are not in the picture, whose points may then be anything.
``head_sizes`` is one number for each image ``(N,)`` or for each map, in pixels of the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import checked_context
from metricgrad.metrics.decoding import floating
from metricgrad.value_range import ranges_of


def prepare_maps(
    stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: frozenset[str], name: str
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Rows of maps, their points, and the context as one value for each row.

    Args:
        stack: ``(T, ..., H, W)`` scores.
        targets: ``(..., 2)`` points.
        context: what the caller gave; None counts as not given.
        takes: the names the metric takes besides ``mask``.
        name: the metric's, for messages.

    Returns:
        ``(T, R, H, W)`` scores in float32 or float64, ``(R, 2)`` points in the dtype of the scores, and the context as
        ``(R,)``.

    Raises:
        MetricgradError: for other shapes, points that are not finite, or context the metric does not take.
    """
    check_tensor("scores", stack)
    check_tensor("targets", targets)
    if targets.ndim < 2 or stack.ndim != targets.ndim + 2 or targets.shape[-1] != 2 or (
        stack.shape[1:-2] != targets.shape[:-1]
    ):  # fmt: skip
        raise MetricgradError(
            f"metric {name!r} reads heat maps: expected scores (N, J, H, W) with targets (N, J, 2), the point (x, y) "
            f"of each map, got {tuple(stack.shape[1:])} and {tuple(targets.shape)}"
        )
    stack = floating(stack, targets)
    if not min(stack.shape[-2:]):
        raise MetricgradError(f"scores have shape {tuple(stack.shape[1:])}: heat maps without a pixel")
    mask, given = checked_context(context, targets.shape[:-1], targets.device, takes=takes, who=f"metric {name!r}")
    stack, targets = stack.flatten(1, -3), targets.detach().to(stack.dtype).flatten(0, -2)
    rows = {key: value.reshape(-1) for key, value in given.items()}
    if mask is not None:
        mask = mask.reshape(-1)
        stack, targets = stack[:, mask], targets[mask]
        rows = {key: value[mask] for key, value in rows.items()}
    if not ranges_of(targets)[0].finite:
        raise MetricgradError(
            "targets hold points that are NaN or infinite; leave absent joints out with mask=, shaped like the "
            "leading axes of targets"
        )
    return stack, targets, rows


def peaks(maps: Tensor) -> Tensor:
    """``(..., 2)`` int64: the highest pixel (x, y) of each of ``(..., H, W)`` maps, the first of equals row by row."""
    peak, width = maps.flatten(-2).argmax(-1), maps.shape[-1]
    return torch.stack([peak % width, torch.div(peak, width, rounding_mode="floor")], -1)


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """``(R,)``: of ``(R, H, W)`` maps, the value of the pixel nearest to each of ``(R, 2)`` points, within the map."""
    x, y = (points[:, k].round().long().clamp(0, maps.shape[2 - k] - 1) for k in (0, 1))
    return maps[torch.arange(len(maps), device=maps.device), y, x]
