"""Cross-entropy of heat maps: which pixel the key point is at, every pixel being a class."""

from __future__ import annotations

from torch import Tensor

from metricgrad.losses.baselines.gaussian_mse import GaussianTargets, squared_distances
from metricgrad.losses.registry import KEYPOINTS, Entry, Range, register


class HeatmapCrossEntropy(GaussianTargets):
    r"""Cross-entropy of a map's softmax over pixels against a Gaussian around the point, scaled to a sum of 1.

    Use it for key points that are read off the largest pixel, as PCK reads them: unlike the squared error it does not
    spend itself on the height of the map and on a background of zeros (``python benchmarks/pose.py``). Not for maps
    that may hold no point or several. A sigma well below 1 is one pixel.

    Args:
        sigma: above 0, in pixels of the map.

    Cost: O(R H W) time and memory for R maps.

    Raises:
        MetricgradError: for a sigma out of range.

    Example:
        >>> import torch
        >>> point = torch.tensor([[2.0, 1.0]])
        >>> round(float(HeatmapCrossEntropy()(torch.zeros(1, 3, 4), point).exp()), 3)  # one of twelve pixels
        12.0

    References:
        K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017, section 5 (one pixel).
    """

    def each(self, maps: Tensor, points: Tensor) -> Tensor:
        """See :class:`GaussianTargets`."""
        square = squared_distances(points, maps.shape[1], maps.shape[2])
        share = (square / (-2 * self.sigma**2)).flatten(1).softmax(1)
        return -(share * maps.flatten(1).log_softmax(1)).sum(1)


register(
    "heatmap_cross_entropy",
    Entry(
        HeatmapCrossEntropy,
        KEYPOINTS,
        "cross-entropy over the pixels of heat maps against a Gaussian around each key point",
        standard=True,
        space={"sigma": Range(0.5, 4.0, default=1.0)},
    ),
)
