"""A small U-Net: pictures to one logit for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Down twice and up again, with the features of every size carried over.

    Args:
        channels: of the pictures.
        outputs: scores of a pixel; 1 for yes or no.
        width: of the first layer, doubled at every halving.

    Cost: with a width of 8, 15,000 weights.

    References:
        O. Ronneberger, P. Fischer and T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        MICCAI 2015; padded, with normalised batches and two sizes in place of four.

    Example:
        >>> UNet()(torch.zeros(2, 1, 24, 24)).shape
        torch.Size([2, 1, 24, 24])
    """

    def __init__(self, channels: int = 1, outputs: int = 1, *, width: int = 8) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(_block(*pair) for pair in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(3 * each, each) for each in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to ``(N, outputs, H, W)``, H and W multiples of 4."""
        carried, features = [], images
        for number, block in enumerate(self.down):
            features = block(features if not number else nn.functional.max_pool2d(features, 2))
            carried.append(features)
        for block, skipped in zip(self.up, reversed(carried[:-1]), strict=True):
            larger = nn.functional.interpolate(features, scale_factor=2, mode="nearest")
            features = block(torch.cat([larger, skipped], 1))
        return self.head(features)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
