"""Metrics of key points: where each joint's heat map peaks.

The prediction is the pixel with the largest score (the first one among equals); there is no sub-pixel correction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.layouts.heat_maps import peaks
from metricgrad.metrics.layouts.layout import HEAT_MAPS
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

OF_HEADS, PIXELS = 0.5, 2.0


def _structure(radius: float | None = None, **_: object) -> Structure:
    check_radius(radius)
    return Structure("peak", "all", {"radius": radius})


def check_radius(radius: object) -> None:
    """A positive number or None, or an error."""
    if radius is None:
        return
    if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius < math.inf:
        raise MetricgradError(f"pck: radius={radius!r}; expected a number above 0, or None")


def reach(radius: float | None, head_sizes: Tensor | None, points: Tensor) -> Tensor:
    """``(R,)``: how far from each of the ``(R, 2)`` points a peak still counts as right, in pixels of the map."""
    if head_sizes is None:
        return points.new_full((len(points),), PIXELS if radius is None else radius)
    return head_sizes.to(points) * (OF_HEADS if radius is None else radius)


def inside(points: Tensor, within: Tensor, height: int, width: int) -> Tensor:
    """``(R, H, W)``: the pixels within reach of each of the ``(R, 2)`` points."""
    x = torch.arange(width, device=points.device) - points[:, :1]
    y = torch.arange(height, device=points.device) - points[:, 1:]
    return y.square()[:, :, None] + x.square()[:, None, :] <= within.square()[:, None, None]


@register("pck", reads="scores", structure=_structure, context=("head_sizes",), targets="real", layout=HEAT_MAPS)
def pck(read: Tensor, targets: Tensor, *, radius: float | None = None, head_sizes: Tensor | None = None) -> Tensor:
    """Share of heat maps that peak within ``radius`` head sizes (0.5) of their point, without head sizes pixels (2).

    With ``head_sizes`` this is PCKh, and the default radius of 0.5 that of MPII. All maps that the mask keeps count
    the same, whatever their joint.

    Args:
        read: ``(T, R, H, W)`` heat maps.
        targets: ``(R, 2)`` points (x, y).
        radius: in head sizes where they are given, in pixels of the map otherwise; None is 0.5 or 2.
        head_sizes: ``(R,)`` in pixels of the map.
    """
    check_radius(radius)
    found = peaks(read).to(targets)
    right = (found - targets).square().sum(-1) <= reach(radius, head_sizes, targets).square()
    return wide(right.float()).mean(-1)
