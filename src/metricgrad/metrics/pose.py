"""Metrics of key points: where the peak of each heat map lies."""

from __future__ import annotations

import math

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metric import Structure
from metricgrad.metrics.decoding import wide
from metricgrad.metrics.registry import register


def _structure(width: int, radius: float) -> Structure:
    if not radius >= 0 or width < 0:
        raise MetricgradError(f"pck: width={width!r}, radius={radius!r}; expected pixels, 0 or more")
    return Structure("peak", "none", {"width": width, "radius": radius})


def distances(pixels: Tensor, targets: Tensor, count: int, width: int) -> Tensor:
    """Euclidean distances, in pixels, between pixel numbers ``y * width + x`` of heat maps of ``count`` pixels.

    Raises:
        MetricgradError: where ``width`` is 0 and the heat maps are no squares, or where it does not divide them.
    """
    across = width or math.isqrt(count)
    if count % across or (not width and across * across != count):
        raise MetricgradError(f"heat maps of {count} pixels with width={width}; give their width: pck:width=48")
    down = (pixels // across - targets // across).double()
    return (down.square() + (pixels % across - targets % across).double().square()).sqrt()


@register("pck", reads="scores", structure=_structure, context=("head_sizes",))
def pck(
    scores: Tensor, targets: Tensor, *, width: int = 0, radius: float = 1.0, head_sizes: Tensor | None = None
) -> Tensor:
    """Share of heat maps ``(N, H * W)`` whose peak lies within ``radius`` of the true pixel ``y * W + x``.

    The radius is in pixels; with ``head_sizes``, one for each row, it is in head sizes, so ``pck:radius=0.5`` is
    PCKh@0.5. ``width`` is that of a heat map; 0 takes them for squares. The first of equal peaks counts.
    """
    if scores.ndim != 3 or targets.ndim != 1:
        raise MetricgradError(
            f"pck needs (N, H * W) heat maps and (N,) pixel numbers, got {tuple(scores.shape[1:])} and "
            f"{tuple(targets.shape)}; flatten heat maps as scores.flatten(-2) and points as y * W + x"
        )
    away = distances(scores.argmax(-1), targets, scores.shape[2], width)
    reach = radius if head_sizes is None else radius * wide(head_sizes)
    return wide((away <= reach).float()).mean(-1)
