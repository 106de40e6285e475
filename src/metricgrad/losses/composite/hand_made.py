"""Any hand-made loss as a form, so that it stands on the grid beside the learned ones."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.calling import called


class HandMade(Form):
    """A plain module of (scores, targets), such as cross-entropy, as a loss form.

    It has no parameters an aligner could move.

    Args:
        module: returns a 0-d tensor of scores and targets, handed over as :mod:`metricgrad.losses.calling` says: in the
            shapes and dtypes of torch's own losses. A mask over rows is taken care of; other context goes to a module
            whose ``forward`` names it and is refused otherwise.

    Raises:
        MetricgradError: for what is no module, such as a name.
    """

    kind: ClassVar[str] = "hand_made"

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise MetricgradError(
                f"module is {module!r:.60}; expected a module of scores and targets, such as "
                "torch.nn.CrossEntropyLoss()"
            )
        self.module = module

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d."""
        return called(self.module, scores, targets, context)

    @property
    def of_logits(self) -> bool:
        """Not known of a foreign module: torch's BCELoss takes probabilities."""
        return False

    def config(self) -> dict[str, Any]:
        """Nothing: a foreign module is handed over again on loading."""
        return {}
