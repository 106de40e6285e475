"""How learned losses read heat maps, and what their reports hold beside them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from metricgrad.losses.batches import checked_number
from metricgrad.losses.networks.reader import BatchLoss, Reader
from metricgrad.metrics.layouts.heat_maps import at_points, prepare_maps


class MapReader(Reader):
    """Abstract: reads heat maps and the point of each.

    Args:
        sigma: of the Gaussian in the standard loss, in pixels.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = checked_number("sigma", sigma)

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(R, H, W)`` maps and ``(R, 2)`` points."""
        stack, points, _ = prepare_maps(scores[None], targets, {"mask": mask}, takes=frozenset(), name=who)
        return stack[0], points

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error against Gaussian maps."""
        return GaussianMSE(sigma=self.sigma)(scores, targets)

    def rivals(self) -> Mapping[str, BatchLoss]:
        """The standard loss of maps whose level and height say nothing."""
        return {"standardised_standard": of_standardised_maps(self.standard)}

    def target_direction(self, gradient: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
        """The derivative of the pixel nearest to each point."""
        return at_points(gradient, targets)


def of_standardised_maps(standard: BatchLoss) -> BatchLoss:
    """The loss of heat maps at zero mean and unit spread over the batch, so that their level and height say nothing.

    The squared error is then a constant less the covariance with the targets' maps, near their correlation.
    """
    return lambda scores, targets: standard((scores - scores.mean()) / (scores.std() + 1e-12), targets)
