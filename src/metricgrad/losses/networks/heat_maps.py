"""ReLoss's form for key points: a small network reads each heat map's squared error and weighs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.gaussian_mse import gaussian_maps
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.map_reader import MapReader
from metricgrad.losses.networks.mlp import MLP

_WIDTH = 8


class HeatmapNetwork(NetworkForm):
    r"""Squared error against Gaussian maps, each map weighted by a learned function of its own squared errors.

    .. math:: \frac{c}{R} \sum_r w_\theta(E_r) \, \overline{E_r}, \qquad E_r = (s_r - t_r)^2, \qquad
        w_\theta = \sigma(\mathrm{Linear}_{8,1}(\mathrm{ELU}(\mathrm{Linear}_{HW,8}(E))))

    It can express which errors matter where on the map and how much a map that is far off counts. It reads pixels by
    their place on the map, not by their distance from the point, so it has to see points all over the map.

    Fit it with ``ReLoss.fit("pck", scores, targets)``, with the heat maps of a model trained by
    :class:`metricgrad.losses.baselines.gaussian_mse.GaussianMSE`. ``head_sizes`` are not stored with them, so give the
    metric a radius in pixels.

    Args:
        size: ``(H, W)`` of the maps.
        sigma: of the Gaussian targets, in pixels of the map.
        seed: of the first weights.

    Cost: O(H W) time and memory a map, with a factor of 8.

    Raises:
        MetricgradError: for a sigma out of range, for maps of another size, or a context other than
            ``mask``.

    Example:
        >>> from metricgrad.losses.base import CallContext
        >>> import torch
        >>> form, point = HeatmapNetwork(size=(8, 8)), torch.tensor([[2.0, 1.0]])
        >>> near, far = (gaussian_maps(torch.tensor([[x, 1.0]]), 8, 8, 1.0) for x in (2.5, 6.0))
        >>> bool(form(far, point, call=CallContext(0, 0)) > form(near, point, call=CallContext(0, 0)))
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, the surrogate of pose estimation.
    """

    kind: ClassVar[str] = "heatmap_network"

    def __init__(self, *, size: Sequence[int] = (64, 64), sigma: float = 1.0, seed: int = 0) -> None:
        reader = MapErrors(size, sigma)
        network = WeighedErrors([reader.size[0] * reader.size[1], _WIDTH, 1])
        super().__init__(reader, network, seed=seed, size=list(reader.size), sigma=reader.sigma)


class MapErrors(MapReader):
    """Reads the squared error of each pixel.

    Args:
        size: ``(H, W)`` of the maps.
        sigma: of the Gaussian targets.
    """

    def __init__(self, size: Sequence[int], sigma: float) -> None:
        self.size = tuple(int(length) for length in size)
        if len(self.size) != 2 or min(self.size) < 1:
            raise MetricgradError(f"size is {size!r}; expected the height and the width of the heat maps")
        super().__init__(sigma)

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, R, H W)``, of ``(B, R, H, W)`` maps and ``(B, R, 2)`` points."""
        if tuple(scores.shape[-2:]) != self.size:
            raise MetricgradError(
                f"scores are maps of {tuple(scores.shape[-2:])} pixels, and this network was made for {self.size}"
            )
        aims = gaussian_maps(targets.to(scores), self.size[0], self.size[1], self.sigma)
        return ((scores - aims).square().flatten(-2),)


class WeighedErrors(nn.Module):
    """The mean of the maps' mean errors, each weighed by a function of its errors.

    Args:
        widths: of its layers, the pixels first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP(widths, monotone=False)

    def forward(self, error: Tensor) -> Tensor:
        """``(B, R, K)`` errors to ``(B,)`` values from 0."""
        return (self.mlp(error)[..., 0].sigmoid() * error.mean(-1)).mean(-1)
