"""Any form with two knobs: how large its value is, and how sharp the scores that it reads."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob

_FACTOR = math.log(10)


class Scaled(Form):
    r""":math:`e^a L(e^b s)`: a form of sharpened scores, scaled.

    Use it to give knobs to a form that has none, such as a ReLoss network. ``scale`` a acts as a learning rate does, so
    an optimiser that normalises gradients (Adam) hardly sees it; ``sharpness`` b moves where the form saturates, which
    every optimiser sees. Both start at 0 and go from -log 10 to log 10. The form's own knobs stay where they are.

    Around a form of a metric let a policy turn ``sharpness``, and not ``LookAhead``: its derivative takes what the form
    fixes for a batch (:class:`metricgrad.losses.base.Parts`), such as slopes of secants, as constant, which are none of
    it. Of F1 and average precision it was found from a seventh to twice the true one; a warning says so once.

    Args:
        form: the form.

    Cost: that of the form.

    Raises:
        MetricgradError: where it is no form.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.losses.families.classification import ClassificationFamily
        >>> form = Scaled(ClassificationFamily(turns=()))
        >>> sorted(form.knobs())
        ['scale', 'sharpness']
    """

    kind: ClassVar[str] = "scaled"

    def __init__(self, form: Form) -> None:
        super().__init__()
        if not isinstance(form, Form):
            raise MetricgradError(
                f"form is a {type(form).__name__}; a plain module becomes one with "
                "metricgrad.losses.composite.hand_made.HandMade(module)"
            )
        self.form = form
        self.scale = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.sharpness = nn.Parameter(torch.zeros(()), requires_grad=False)
        self._told = False

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d."""
        if self.sharpness.requires_grad and not self._told:
            self._tell()
        value = self.form(self.sharpness.exp().to(scores.dtype) * scores, targets, call=call, **context)
        return self.scale.exp().to(value.dtype) * value

    def _tell(self) -> None:
        self._told = True
        if any(isinstance(part, Form) and part.holds_still for part in self.form.modules()):
            warnings.warn(
                f"the sharpness of Scaled is moved by its gradient around a form of a metric ({self.form.kind}), which "
                "takes the metric's slopes as constant and was found from a seventh to twice the true one; let a "
                "policy turn it, as mg.ALA(metric, form)",
                stacklevel=2,
            )

    @property
    def of_logits(self) -> bool:
        """As the form."""
        return self.form.of_logits

    def knobs(self) -> Mapping[str, Knob]:
        """``scale`` and ``sharpness``, both logarithms."""
        return {name: Knob(getattr(self, name), -_FACTOR, _FACTOR) for name in ("scale", "sharpness")}

    def project(self) -> None:
        """Its own knobs and the form's between their bounds."""
        super().project()
        self.form.project()

    def config(self) -> dict[str, Any]:
        """The form as ``[kind, config]``."""
        return {"form": [self.form.kind, self.form.config()]}
