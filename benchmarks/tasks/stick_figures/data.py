"""Key-point data without a download: pictures of articulated stick figures, drawn from a seed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

JOINTS = (
    *("pelvis", "neck", "head", "left elbow", "left hand", "right elbow", "right hand"),
    *("left knee", "left foot", "right knee", "right foot"),
)
# parent, length as a share of the body's, direction at rest (0 is down, half a turn is up), spread of the angle
_BONES: tuple[tuple[int, float, float, float], ...] = (
    (0, 0.30, math.pi, 0.25),
    (1, 0.13, math.pi, 0.3),
    (1, 0.17, 0.8, 0.8), (3, 0.16, 0.8, 1.0), (1, 0.17, -0.8, 0.8), (5, 0.16, -0.8, 1.0),
    (0, 0.22, 0.3, 0.5), (7, 0.21, 0.2, 0.6), (0, 0.22, -0.3, 0.5), (9, 0.21, -0.2, 0.6),
)  # fmt: skip
_STRAY = 3


def draw_figures(count: int, *, size: int = 32, noise: float = 0.08, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of one stick figure each, over stray limbs and noise.

    Angles, place, body size, shades and the thickness of limbs are random; limbs have soft edges, the head is a disc,
    and left and right differ in shade.

    Args:
        count: pictures.
        size: height and width in pixels, at least 16.
        noise: standard deviation of the pixel noise.
        seed: of everything random.

    Returns:
        ``(count, 1, size, size)`` pictures, about 0 to 1; ``(count, 11, 2)`` joints as (x, y) in pixels, in the order
        of ``JOINTS``, all within the picture; ``(count,)`` head sizes in pixels, the length from neck to head and as
        much again.

    Cost: O(count * size^2) time and memory for 13 limbs.

    Raises:
        MetricgradError: for a size below 16 or a negative count.

    Example:
        >>> images, joints, heads = draw_figures(2, size=24)
        >>> images.shape, joints.shape, heads.shape
        (torch.Size([2, 1, 24, 24]), torch.Size([2, 11, 2]), torch.Size([2]))
    """
    if size < 16 or count < 0:
        raise MetricgradError(f"size={size}, count={count}; expected at least 16 pixels and no negative count")
    g = torch.Generator().manual_seed(seed)
    joints, body = _posed(count, size, g)
    parents = torch.tensor([bone[0] for bone in _BONES])
    ends = joints[:, 1:]
    stray = torch.rand(count, _STRAY, 2, generator=g) * size
    turn = torch.rand(count, _STRAY, generator=g) * 2 * math.pi
    stray_ends = stray + 0.2 * size * torch.stack([turn.cos(), turn.sin()], -1)
    starts = torch.cat([joints[:, parents], stray], 1)
    ends = torch.cat([ends, stray_ends], 1)
    side = torch.tensor([0.75, 0.75, 0.95, 0.95, 0.5, 0.5, 0.95, 0.95, 0.5, 0.5] + [0.6] * _STRAY)
    shade = (side + 0.1 * torch.randn(count, len(side), generator=g)).clamp(0.2, 1.0)
    thick = body * 0.02 * (0.8 + 0.6 * torch.rand(count, generator=g)) + 0.4
    limbs = _capsules(starts, ends, thick[:, None].expand(count, len(side)), size)
    head = _capsules(joints[:, 2:3], joints[:, 2:3], (0.055 * body + 0.5)[:, None], size)
    cover = torch.cat([limbs * shade[:, :, None, None], 0.85 * head], 1)
    images = cover.amax(1, keepdim=True) + noise * torch.randn(count, 1, size, size, generator=g)
    return images, joints, 2 * (joints[:, 2] - joints[:, 1]).norm(dim=-1)


def _posed(count: int, size: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Joints ``(count, 11, 2)`` and the length of the body ``(count,)``."""
    body = size * (0.6 + 0.25 * torch.rand(count, generator=g))
    lean = 0.3 * torch.randn(count, generator=g)
    points = [torch.zeros(count, 2)]
    for parent, length, rest, spread in _BONES:
        angle = rest + lean + spread * (2 * torch.rand(count, generator=g) - 1)
        points.append(points[parent] + (length * body)[:, None] * torch.stack([angle.sin(), angle.cos()], -1))
    joints = torch.stack(points, 1)
    low, high = joints.amin(1), joints.amax(1)
    # a figure that lies askew may be longer than the picture: shrink it, then put it anywhere it fits
    fit = ((size - 3.0) / (high - low).amax(1)).clamp(max=1.0)
    joints, low, high, body = joints * fit[:, None, None], low * fit[:, None], high * fit[:, None], body * fit
    free = size - 3.0 - (high - low)
    place = 1.0 + free * torch.rand(count, 2, generator=g) - low
    return joints + place[:, None], body


def _capsules(starts: Tensor, ends: Tensor, radius: Tensor, size: int) -> Tensor:
    """``(N, L, size, size)`` cover from 0 to 1 of thick lines with round ends and an edge one pixel wide."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pixels = torch.stack([x, y], -1).to(starts)
    along = (ends - starts)[:, :, None, None]
    offset = pixels - starts[:, :, None, None]
    share = ((offset * along).sum(-1) / along.square().sum(-1).clamp(min=1e-9)).clamp(0, 1)
    distance = (offset - share[..., None] * along).norm(dim=-1)
    return (radius[:, :, None, None] + 0.5 - distance).clamp(0, 1)
