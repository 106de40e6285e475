"""The aligner that moves nothing: the loss form stays as it was made."""

from __future__ import annotations

from typing import Any, ClassVar

from metricgrad.aligners.base import Aligner
from metricgrad.losses.base import Form


class Static(Aligner):
    """No alignment. UniLoss is a form with this aligner, and it is the control for every other aligner."""

    kind: ClassVar[str] = "static"
    reads_valid: ClassVar[bool] = False

    def refusal(self, form: Form) -> str | None:
        """Every form can stand still."""
        return None

    def config(self) -> dict[str, Any]:
        """No arguments."""
        return {}
