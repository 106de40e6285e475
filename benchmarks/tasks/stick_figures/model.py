"""A small one-stack hourglass: pictures to heat maps."""

from __future__ import annotations

from torch import Tensor, nn

from metricgrad.errors import MetricgradError


class Hourglass(nn.Module):
    """Down to a small map and up again, with a skip at every size; one heat map a joint, as large as the picture.

    Args:
        joints: heat maps.
        channels: of the pictures.
        width: of every hidden layer.
        depth: how many times the size is halved.

    Cost: with a width of 16 and a depth of 3, 30,000 weights.

    References:
        A. Newell, K. Yang and J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016; one stack,
        plain convolutions in place of residual bottlenecks, and no reduction at the entry.

    Example:
        >>> import torch
        >>> Hourglass(11)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 11, 32, 32])
    """

    def __init__(self, joints: int, *, channels: int = 1, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.depth = depth
        self.entry = _block(channels, width)
        self.down = nn.ModuleList(_block(width, width) for _ in range(depth))
        self.skip = nn.ModuleList(_block(width, width) for _ in range(depth))
        self.up = nn.ModuleList(_block(width, width) for _ in range(depth))
        self.head = nn.Conv2d(width, joints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to ``(N, joints, H, W)``; H and W are multiples of ``2 ** depth``."""
        if any(length % 2**self.depth for length in images.shape[-2:]):
            raise MetricgradError(
                f"images of {tuple(images.shape[-2:])} pixels; a depth of {self.depth} needs multiples of "
                f"{2**self.depth}"
            )
        x, sides = self.entry(images), []
        for down, skip in zip(self.down, self.skip, strict=True):
            sides.append(skip(x))
            x = down(nn.functional.max_pool2d(x, 2))
        for up in self.up:
            x = sides.pop() + nn.functional.interpolate(up(x), scale_factor=2, mode="nearest")
        return self.head(x)


def _block(inner: int, outer: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU())
