"""What a loss form is: a module of (scores, targets) that an aligner can move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Draw:
    """The random choices of one call: everything random in a form follows from the seed and the step."""

    seed: int
    step: int

    def generator(self) -> torch.Generator:
        """A CPU generator that depends on nothing but the seed and the step."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.step) % (2**63 - 1))


class Form(nn.Module):
    """Abstract: the left half of the grid. ``parameters()`` serve RankCorrelation and LookAhead, ``knobs()`` Policy."""

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """0-d loss, minimised."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """JSON-able arguments that build this form again."""
        return {}
