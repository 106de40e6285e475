"""``Loss(form, aligner)``: the one module people hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.losses.form import Draw, Form


class Loss(nn.Module):
    """A loss form times an aligner."""

    def __init__(self, form: Form, aligner: object | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.form = form
        self.aligner = aligner
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d loss; calls under ``no_grad`` or in eval mode do not count as steps."""
        value = self.form(scores, targets, draw=Draw(self.seed, int(self.steps)), **context)
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        return value
