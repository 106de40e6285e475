"""Any hand-made loss as a form, so that it stands on the grid beside the learned ones."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from metricgrad.losses.form import Draw, Form


class HandMade(Form):
    """A plain module of (scores, targets), such as cross-entropy, as a loss form.

    It has no parameters an aligner could move and ignores the context.

    Args:
        module: called as ``module(scores, targets)``; returns a 0-d tensor.
    """

    kind: ClassVar[str] = "hand_made"

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """0-d."""
        return self.module(scores, targets)

    def config(self) -> dict[str, Any]:
        """Nothing: a foreign module is handed over again on loading."""
        return {}
