"""How a loss reads batches of classes: as its metric does, as it was told, or as the first clear batch showed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.metrics.layouts.class_targets import ClassDim, ClassTargets, Context, axis_of, tells
from metricgrad.on_host import OnHost

_AXES: tuple[ClassDim | None, ...] = (None, 1, -1)


class ClassReading(nn.Module):
    """Reads batches for all parts of one loss.

    Args:
        of_metric: how its metric reads them; None where it has none.
        class_dim: said of the loss; goes before what the metric says.
        ignore_index: likewise.

    Attributes:
        axis: 0-d: 0 until a batch has shown it, then 1 for classes on axis 1 and 2 for classes last.
    """

    axis: Tensor

    def __init__(
        self, of_metric: ClassTargets | None, *, class_dim: ClassDim | None = None, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        self._said = {"class_dim": class_dim, "ignore_index": ignore_index}
        self._said = {name: value for name, value in self._said.items() if value is not None}
        self._targets = replace(of_metric or ClassTargets(), **self._said)
        self.register_buffer("axis", torch.zeros((), dtype=torch.long))
        self._shown, self._axis = False, OnHost(int)
        self.register_load_state_dict_pre_hook(_without_axis)

    def tell(self, *, class_dim: ClassDim | None = None, ignore_index: int | None = None) -> None:
        """What is known of the batches to come, by the trainer that makes them; what was said before stays."""
        told = self._targets
        if told.class_dim is None and class_dim is not None and not self._axis.of(self.axis):
            self.axis.fill_(_AXES.index(class_dim))
        if told.ignore_index is None and ignore_index is not None and told.pos_label != ignore_index:
            self._targets = replace(told, ignore_index=ignore_index)

    def read(
        self, scores: Tensor, targets: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
        """See :meth:`ClassTargets.read`."""
        return self._for(scores, targets).read(scores, targets, context)

    def pair(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`ClassTargets.pairs`."""
        scores, targets = self._for(scores, targets).pairs(scores, targets)
        return scores, targets

    def described(self) -> dict[str, Any]:
        """What was said of the loss, beside what its metric says."""
        return self._said

    def _for(self, scores: Tensor, targets: Tensor) -> ClassTargets:
        """How this batch is read: with the axis that was shown, where its own shape does not say it."""
        told = self._targets
        if told.class_dim is not None or scores.ndim < 3:
            return told
        if not tells(scores.shape, targets.shape):
            return replace(told, class_dim=_AXES[self._axis.of(self.axis)])
        if not self._shown:
            self._shown = True
            if not self._axis.of(self.axis):
                self.axis.fill_(_AXES.index(axis_of(scores.shape, targets.shape, None)))
        return told


def of_metric(*halves: nn.Module) -> ClassTargets | None:
    """How the metrics in these read batches; None where there is none.

    Raises:
        MetricgradError: where two of them read batches in different ways.
    """
    found = {part.class_targets for half in halves for part in half.modules() if hasattr(part, "class_targets")}
    found = sorted((each for each in found if isinstance(each, ClassTargets)), key=repr)
    if len(found) > 1:
        raise MetricgradError(
            f"the loss has metrics that read batches in different ways, {' and '.join(map(repr, found))}; make them "
            "with the same class_dim, ignore_index and pos_label"
        )
    return found[0] if found else None


def _without_axis(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """A state of before there was one; what is loaded goes before what was shown."""
    assert isinstance(module, ClassReading)
    module._shown = False
    state_dict.setdefault(prefix + "axis", torch.zeros((), dtype=torch.long))
