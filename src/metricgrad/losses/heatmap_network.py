"""ReLoss's form for pose: a learned weight on the squared error of each heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number
from metricgrad.losses.network import Network, NetworkForm
from metricgrad.metrics.decoding import canonical

_WIDTH = 8


class HeatmapNetwork(NetworkForm):
    r"""The squared error of each heat map, weighted by what a small network sees of where the error lies.

    .. math:: \frac{c}{N} \sum_i \sigma\bigl(f_\theta(d_i)\bigr) \, \frac1P \sum_p d_{ip}, \qquad
        d_{ip} = (s_{ip} - g_{ip})^2

    g is a Gaussian of height 1 round the true pixel, f a Linear(P, 8)-ELU-Linear(8, 1).

    It can express that errors in some places, or many errors together, count more or less than their squares. It cannot
    express what depends on several key points or images at once (object key-point similarity over instances), and a
    network of one size serves heat maps of that size alone.

    Args:
        size: height and width of a heat map.
        sigma: of the Gaussian, in pixels.
        seed: of the first weights.

    Cost: O(N P) time and memory, 8 multiplications a pixel.

    Raises:
        MetricgradError: for options out of range, heat maps of another size, targets that are no pixel numbers, or a
            context other than ``mask``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.form import Draw
        >>> form, pixel = HeatmapNetwork(size=(3, 3)), torch.tensor([[4]])
        >>> aimed = form._aims(pixel[0], torch.float32)[None]
        >>> float(form(aimed, pixel, draw=Draw(0, 0)))
        0.0

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, section on pose. Gaussian targets are made
        from pixel numbers here, so that stored scores need no heat maps beside them.
    """

    kind: ClassVar[str] = "heatmap_network"
    of_labels: ClassVar[bool] = False

    def __init__(self, *, size: Sequence[int] = (16, 16), sigma: float = 1.0, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if len(size) != 2 or min(size) < 1:
            raise MetricgradError(f"size is {tuple(size)}; expected height and width of a heat map, such as (64, 48)")
        self.height, self.width = size
        self.sigma = checked_number("sigma", sigma)
        self.network = Network([self.height * self.width, _WIDTH, 1], monotone=False)
        self.reset(seed)

    def networks(self) -> Sequence[Network]:
        """The one network."""
        return [self.network]

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(N, P)`` heat maps, row by row of pixels, and ``(N,)`` pixel numbers.

        Args:
            scores: ``(B, J, H * W)`` or ``(N, H * W)``, or ``(B, J, H, W)``, heat maps.
            targets: ``(B, J)`` or ``(N,)`` numbers ``y * W + x`` of the true pixels.
            mask: boolean, shaped like the targets; False key points are left out.
        """
        if scores.ndim == targets.ndim + 2 and tuple(scores.shape[-2:]) == (self.height, self.width):
            scores = scores.flatten(-2)
        scores, targets = canonical(scores, targets, mask)
        pixels = self.height * self.width
        if scores.ndim != 2 or targets.ndim != 1 or scores.shape[1] != pixels:
            raise MetricgradError(
                f"scores have shape {tuple(scores.shape)} and targets {tuple(targets.shape)}; expected heat maps of "
                f"{self.height} x {self.width} = {pixels} pixels and one pixel number y * W + x each"
            )
        if targets.numel() and not bool(((targets >= 0) & (targets < pixels) & (targets == targets.long())).all()):
            raise MetricgradError(f"targets are not all pixel numbers 0 to {pixels - 1}; mask key points out of view")
        return scores, targets.long()

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error to the Gaussian heat maps."""
        scores, targets = self.read(scores, targets)
        return (scores - self._aims(targets, scores.dtype)).square().mean()

    def over(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(B,)``, non-negative."""
        squared = (scores - self._aims(targets, scores.dtype)).square()
        return (self.network(squared)[..., 0].sigmoid() * squared.mean(-1)).mean(-1)

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {"size": [self.height, self.width], "sigma": self.sigma, "seed": self.seed}

    def _aims(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Gaussian heat maps ``(..., P)`` of pixel numbers ``(...)``."""
        pixel = torch.arange(self.height * self.width, device=targets.device)
        down = pixel // self.width - (targets // self.width)[..., None]
        across = pixel % self.width - (targets % self.width)[..., None]
        return torch.exp(-(down.square() + across.square()).to(dtype) / (2 * self.sigma**2))
