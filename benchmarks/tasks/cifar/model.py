"""Residual networks for small images: ResNet-20 and ResNet-18 (He et al. 2016), WRN (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
        projection: a 1 x 1 convolution as the shortcut where shapes differ; otherwise it subsamples and pads with
            zeros, which needs no parameters.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.stride, self.extra = stride, outputs - inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        changes = stride > 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if projection and changes
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        if self.shortcut is not None:
            return torch.relu(self.body(x) + self.shortcut(x))
        thin = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(self.body(x) + nn.functional.pad(thin, (0, 0, 0, 0, 0, self.extra)))


class PreActivation(nn.Module):
    """The block of wide residual networks: normalisation and ReLU come before each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )  # fmt: skip
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y = self.first(x)
        return self.body(y) + (x if self.shortcut is None else self.shortcut(y))


def resnet20(classes: int = 10) -> nn.Sequential:
    """0.27 million parameters, shortcuts without any."""
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(a, b, b // a, projection=False) for a, b in pairwise(widths)]
    return nn.Sequential(*_stem(16), *blocks, *_head(64, classes))


def resnet18(classes: int = 10) -> nn.Sequential:
    """11.2 million parameters; for 32 x 32 images: a 3 x 3 stem and no pooling before the blocks."""
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [Block(a, b, b // a, projection=True) for a, b in pairwise(widths)]
    return nn.Sequential(*_stem(64), *blocks, *_head(512, classes))


def wide_resnet(depth: int = 28, widen: int = 10, classes: int = 10) -> nn.Sequential:
    """WRN-depth-widen, without dropout: 36.5 million parameters as 28-10, 11.0 million as 16-8.

    Raises:
        MetricgradError: for a depth that is not 4 more than a multiple of 6, or a factor below 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise MetricgradError(f"depth is {depth!r}; expected 6 n + 4: 10, 16, 22, 28, ...")
    if widen < 1:
        raise MetricgradError(f"widen is {widen!r}; expected a factor of 1 or more")
    blocks: list[nn.Module] = []
    last = 16
    for group, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for place in range((depth - 4) // 6):
            blocks.append(PreActivation(last, width, 2 if group and not place else 1))
            last = width
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    return nn.Sequential(stem, *blocks, nn.BatchNorm2d(last), nn.ReLU(), *_head(last, classes))


def _stem(width: int) -> list[nn.Module]:
    return [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def _head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
