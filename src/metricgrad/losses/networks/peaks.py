"""A learned loss of heat maps that reads how much of each map stands near its point, at several distances."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.map_reader import MapReader
from metricgrad.losses.networks.mlp import MeanAboveZero

_WIDTH = 32
_RADII = (0.5, 1.0, 2.0, 4.0, 8.0)
_SHARPNESS = (1.0, 4.0, 16.0)
_LEAST = 1e-12


class PeakNetwork(NetworkForm):
    r"""A learned function of the share of each map's softmax that lies within several distances of its point.

    .. math:: \frac{c}{R} \sum_r f_\theta\bigl(1 - p_{r \beta \rho}, -\tfrac14 \log p_{r \beta \rho}\bigr), \qquad
        p_{r \beta \rho} = \sum_{x :\, |x - t_r| \le \rho} \mathrm{softmax}(\beta s_r / \bar\sigma)_x

    over the sharpnesses 1, 4 and 16 and the distances 0.5, 1, 2, 4 and 8 pixels; :math:`\bar\sigma` is the spread of
    the batch's maps about their means. f never falls where a share grows smaller, and is 0 where all of the map is at
    its point. The pixel nearest to the point is within every distance.

    It can express PCK at any radius up to 8 pixels and mixtures of radii, averaged over maps. It reads distances, not
    places, so it moves to maps of any size. It cannot express what depends on several joints at once (a whole figure
    right or wrong) or on radii that differ between maps, such as PCKh: ``head_sizes`` are refused.

    Use it for metrics of heat maps; :class:`metricgrad.losses.networks.heat_maps.HeatmapNetwork` is the paper's form.

    Args:
        sigma: of the Gaussian in the standard loss that may be added to it, in pixels.
        seed: of the first weights.

    Cost: O(R H W) time and memory for R maps, with a factor of 10.

    Raises:
        MetricgradError: for a sigma out of range, shapes that are no maps and points, or a context other than
            ``mask``.

    Example:
        >>> from metricgrad.losses.base import CallContext
        >>> from metricgrad.losses.baselines.gaussian_mse import gaussian_maps
        >>> form, point = PeakNetwork(), torch.tensor([[2.0, 1.0]])
        >>> near, far = (gaussian_maps(torch.tensor([[x, 1.0]]), 8, 8, 1.0) for x in (2.5, 6.0))
        >>> bool(form(far, point, call=CallContext(0, 0)) > form(near, point, call=CallContext(0, 0)))
        True

    References:
        The idea of a learned loss of heat maps: T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022. The
        readings and the monotone network are ours.
    """

    kind: ClassVar[str] = "peak_network"

    def __init__(self, *, sigma: float = 1.0, seed: int = 0) -> None:
        reader = MapShares(sigma)
        readings = 2 * len(_RADII) * len(_SHARPNESS)
        super().__init__(reader, MeanAboveZero([readings, _WIDTH, _WIDTH, 1]), seed=seed, sigma=reader.sigma)


class MapShares(MapReader):
    """Reads how much of each map's softmax stands near its point."""

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, R, K)``: for every sharpness and distance, the share outside and the surprise of the share inside."""
        height, width = scores.shape[-2:]
        x = torch.arange(width, device=scores.device) - targets[..., 0, None]
        y = torch.arange(height, device=scores.device) - targets[..., 1, None]
        square = (y.square()[..., :, None] + x.square()[..., None, :]).flatten(-2)
        # which distance a pixel lies within first; the one nearest to the point lies within the smallest, whatever
        # its own
        ring = torch.bucketize(square, square.new_tensor(_RADII).square())
        ring = ring.masked_fill(square <= square.amin(-1, keepdim=True), 0)
        flat = scores.flatten(-2)
        variance = (flat - flat.mean(-1, keepdim=True)).square().mean((-1, -2), keepdim=True)
        rings = flat.new_zeros(*flat.shape[:-1], len(_RADII) + 1)
        shares = [
            rings.scatter_add(-1, ring, (sharp * flat * (variance + _LEAST).rsqrt()).softmax(-1)).cumsum(-1)[..., :-1]
            for sharp in _SHARPNESS
        ]
        inside = torch.cat(shares, -1).clamp(max=1)
        return (torch.cat([1 - inside, -(inside + _LEAST).log() / 4], -1),)
