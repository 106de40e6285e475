"""Masks without a download: ellipses among rectangles, drawn from a seed, some of them hardly to be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

_ELLIPSES, _RECTANGLES = 2, 3


def draw_shapes(count: int, *, size: int = 24, noise: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures with one or two ellipses, whose pixels are the mask, over rectangles that are not.

    Places, axes, turns and shades are random, those of ellipses a little lighter, and so is the contrast of a whole
    picture, from a fifth to all of it: what is sure in one picture is a guess in the next.

    Args:
        count: pictures.
        size: height and width in pixels, at least 8.
        noise: standard deviation of the pixel noise.
        seed: of everything random.

    Returns:
        ``(count, 1, size, size)`` pictures, and ``(count, size, size)`` int64 masks of 0 and 1, each with a 1.

    Raises:
        MetricgradError: for a size below 8 or a negative count.

    Example:
        >>> images, masks = draw_shapes(3, size=16)
        >>> images.shape, masks.shape, bool(masks.flatten(1).any(1).all())
        (torch.Size([3, 1, 16, 16]), torch.Size([3, 16, 16]), True)
    """
    if size < 8 or count < 0:
        raise MetricgradError(f"size={size}, count={count}; expected at least 8 pixels and no negative count")
    g = torch.Generator().manual_seed(seed)
    place = torch.stack(torch.meshgrid(*[torch.arange(size) + 0.5] * 2, indexing="ij"), -1)
    image = torch.zeros(count, size, size)
    for _ in range(_RECTANGLES):
        image = _over(image, _within(place, count, size, g, round_=False), 0.3, g)
    mask = torch.zeros(count, size, size, dtype=torch.bool)
    for number in range(_ELLIPSES):
        drawn = _within(place, count, size, g, round_=True)
        if number:  # one picture in two has a second
            drawn = drawn & (torch.rand(count, 1, 1, generator=g) < 0.5)
        image, mask = _over(image, drawn, 0.6, g), mask | drawn
    contrast = 0.2 + 0.8 * torch.rand(count, 1, 1, generator=g)
    image = contrast * image + noise * torch.randn(image.shape, generator=g)
    return image[:, None], mask.long()


def _within(place: Tensor, count: int, size: int, g: torch.Generator, *, round_: bool) -> Tensor:
    """``(count, size, size)``: which pixels are of a shape at a random place, of random axes and turn."""
    centre = (0.15 + 0.7 * torch.rand(count, 1, 1, 2, generator=g)) * size
    axes = (0.1 + 0.12 * torch.rand(count, 1, 1, 2, generator=g)) * size
    angle = torch.rand(count, 1, 1, generator=g) * torch.pi
    x, y = (place - centre).unbind(-1)
    turned = torch.stack([angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x], -1) / axes
    return turned.square().sum(-1) < 1 if round_ else turned.abs().amax(-1) < 1


def _over(image: Tensor, drawn: Tensor, shade: float, g: torch.Generator) -> Tensor:
    """The picture with a shape on it, of a random shade from this one up."""
    return torch.where(drawn, shade + 0.4 * torch.rand(len(image), 1, 1, generator=g), image)
