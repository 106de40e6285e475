"""The standard loss of heat maps: squared error against a Gaussian around each key point."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.losses.batches import checked_number
from metricgrad.losses.calling import ScoreLoss
from metricgrad.losses.registry import KEYPOINTS, Entry, Range, register
from metricgrad.metrics.layouts.heat_maps import prepare_maps


def gaussian_maps(points: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """``(..., H, W)`` maps of height 1 around ``(..., 2)`` points (x, y), which need not be whole pixels.

    Example:
        >>> float(gaussian_maps(torch.tensor([[2.0, 1.0]]), 3, 4, 1.0)[0, 1, 2])
        1.0
    """
    return (squared_distances(points, height, width) / (-2 * sigma**2)).exp()


def squared_distances(points: Tensor, height: int, width: int) -> Tensor:
    """``(..., H, W)``: of each pixel from ``(..., 2)`` points (x, y), in pixels."""
    x = torch.arange(width, device=points.device) - points[..., 0, None]
    y = torch.arange(height, device=points.device) - points[..., 1, None]
    return y.square()[..., :, None] + x.square()[..., None, :]


class GaussianTargets(ScoreLoss, abc.ABC):
    """Abstract: a loss of heat maps against Gaussians around the key points.

    Args:
        sigma: above 0, in pixels of the map.
    """

    def __init__(self, *, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = checked_number("sigma", sigma)

    @abc.abstractmethod
    def each(self, maps: Tensor, points: Tensor) -> Tensor:
        """``(R,)`` the loss of each of ``(R, H, W)`` maps, whose points are ``(R, 2)``."""

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: ``(..., H, W)`` heat maps.
            targets: ``(..., 2)`` points (x, y).
            context: ``mask``, booleans, False maps are left out; ``sample_weight``, numbers from 0 up; both shaped like
                the leading axes or the first of them. No ``head_sizes``: the Gaussian has one width.

        Returns:
            0-d, in float32 at least; zero with a zero gradient where no map is left.
        """
        check_tensor("scores", scores)
        stack, points, given = prepare_maps(
            scores[None], targets, context, takes=frozenset({"sample_weight"}), name=type(self).__name__
        )
        maps, weight = stack[0], given.get("sample_weight")
        if not len(maps):
            return (scores * 0).sum()
        each = self.each(maps, points)
        return each.mean() if weight is None else (each * (weight / weight.sum()).to(each)).sum()

    def extra_repr(self) -> str:
        """Its settings."""
        return f"sigma={self.sigma:g}"


class GaussianMSE(GaussianTargets):
    r"""Mean squared error of heat maps against :math:`e^{-d^2 / 2 \sigma^2}`, d being the distance from the point.

    Use it for key points, where it is what people train with. The best sigma depends on the metric's radius and on the
    size of the maps, and has to be searched. A background of zeros is most of what it sees: compare
    :class:`metricgrad.losses.baselines.heatmap_cross_entropy.HeatmapCrossEntropy` and ``UniLoss("pck")``.

    Args:
        sigma: above 0, in pixels of the map.

    Cost: O(R H W) time and memory for R maps.

    Raises:
        MetricgradError: for a sigma out of range.

    Example:
        >>> point = torch.tensor([[2.0, 1.0]])
        >>> float(GaussianMSE()(gaussian_maps(point, 3, 4, 1.0), point))
        0.0

    References:
        J. Tompson, A. Jain, Y. LeCun and C. Bregler, "Joint Training of a Convolutional Network and a Graphical Model
        for Human Pose Estimation", NeurIPS 2014.
    """

    def each(self, maps: Tensor, points: Tensor) -> Tensor:
        """See :class:`GaussianTargets`."""
        return (maps - gaussian_maps(points, maps.shape[1], maps.shape[2], self.sigma)).square().mean((1, 2))


register(
    "gaussian_mse",
    Entry(
        GaussianMSE,
        KEYPOINTS,
        "squared error of heat maps against a Gaussian around each key point",
        standard=True,
        space={"sigma": Range(0.5, 4.0, default=1.0)},
    ),
)
