"""Adam on a loss form's parameters, its moments in flat buffers, so that they save and load before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metricgrad.on_host import OnHost

_BETAS = (0.9, 0.999)
_EPSILON = 1e-10  # hypergradients carry the model's learning rate, so they are small


class MetaAdam(nn.Module):
    """Moves parameters that need no gradients of their own.

    Args:
        lr: its learning rate.
        clip: largest norm of the gradient, or None.
    """

    updates: Tensor
    first_moment: Tensor
    second_moment: Tensor

    def __init__(self, lr: float, clip: float | None) -> None:
        super().__init__()
        self.lr, self.clip = lr, clip
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._updates = OnHost(int)
        self.make_room([])

    def make_room(self, parameters: Sequence[Tensor]) -> None:
        """Moments of zero for these parameters."""
        device = parameters[0].device if parameters else None
        size = sum(p.numel() for p in parameters)
        for name in ("first_moment", "second_moment"):
            self.register_buffer(name, torch.zeros(size, device=device))

    def move(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], norm: float) -> None:
        """One step; nothing moves where the gradient's norm, which is handed in, is not finite."""
        if not norm < float("inf"):
            return
        with torch.no_grad():
            flat = torch.cat([g.flatten().to(self.first_moment) for g in gradients])
            if self.clip is not None and norm > self.clip:
                flat = flat * (self.clip / norm)
            count = self._updates.of(self.updates) + 1
            self._updates.wrote(self.updates.add_(1), count)
            self.first_moment.lerp_(flat, 1 - _BETAS[0])
            self.second_moment.lerp_(flat.square(), 1 - _BETAS[1])
            size = (self.second_moment / (1 - _BETAS[1] ** count)).sqrt() + _EPSILON
            change = self.first_moment / size * (-self.lr / (1 - _BETAS[0] ** count))
            for parameter, part in zip(parameters, change.split([g.numel() for g in gradients]), strict=True):
                parameter.add_(part.view_as(parameter))
