"""What a loss says once, at its first calls in training, and never looks at again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import Aligner
from metricgrad.checks import where_not_finite
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.probabilities import (
    FEWEST_ROWS,
    of_linear_layer,
    rows_of,
    transformed,
    warn_of_probabilities,
    within_unit,
)

_FEWEST_LISTS = 8
_COUNTED = ("groups", "sample_weight")


class FirstCalls:
    """Looks at the rows of the first calls, 50 at least, and at whether anything ever moves the loss.

    Attributes:
        attended: whether the loss was attached, fitted or given feedback.
        judged: whether validation batches steer it, of which nobody has said yet that they are without context.
    """

    def __init__(self) -> None:
        self.attended = self.judged = False
        self._calls = self._rows = 0
        self._seen = False

    def look(
        self,
        form: Form,
        aligner: Aligner,
        scores: Tensor,
        targets: Tensor,
        context: Mapping[str, Tensor | None],
        *,
        check_finite: bool,
    ) -> None:
        """One call that counts as a step.

        Raises:
            MetricgradError: for NaN among the scores or the targets that the mask keeps.
        """
        self._calls += 1
        if not self._seen:
            self._look_at(form, scores, targets, context.get("mask"), check_finite)
        if self.judged and (given := [name for name in _COUNTED if context.get(name) is not None]):
            self.judged = False
            warnings.warn(
                f"this call came with {' and '.join(given)}, and the validation batches that {type(aligner).__name__} "
                "judges by are scores and targets alone: all their rows count, alike and as one list; lay queries out "
                "as rows of scores, (N, C), or judge by a metric of rows",
                stacklevel=_level_of_user(),
            )
        if self._calls == 2 and not self.attended and (missing := aligner.unattended()) is not None:
            warnings.warn(missing, stacklevel=_level_of_user())

    def _look_at(self, form: Form, scores: Tensor, targets: Tensor, mask: Tensor | None, check_finite: bool) -> None:
        if transformed(scores):
            return
        for name, values in (("scores", scores), ("targets", targets)) if check_finite else ():
            if found := where_not_finite(_kept(values, mask), nan_only=True):
                raise MetricgradError(
                    f"{name} hold {found}"
                    + ("; look at the inputs of those rows first, then at the model" if name == "scores" else "")
                    + "; leave those rows out, as with mask="
                )
        self._rows += rows_of(scores, targets)
        suspect = form.of_logits and _of_labels(scores, targets) and within_unit(scores.detach())
        self._seen = not suspect or of_linear_layer(scores)
        if not self._seen and self._rows >= FEWEST_ROWS:
            self._seen = True
            warn_of_probabilities(f"this loss ({form.kind})", stacklevel=_level_of_user())


class FirstCallsOfRankings(FirstCalls):
    """Of a loss that ranks each row by itself: also whether all rows of a batch have one relevant item."""

    def __init__(self) -> None:
        super().__init__()
        self._counted = False

    def look(self, form: Form, aligner: Aligner, scores: Tensor, targets: Tensor, *args: Any, **kwargs: Any) -> None:
        """See :meth:`FirstCalls.look`; counts in the first batch of eight rows or more.

        Warns:
            UserWarning: where each row has one.
        """
        super().look(form, aligner, scores, targets, *args, **kwargs)
        if self._counted or len(targets) < _FEWEST_LISTS or transformed(targets):
            return
        self._counted = True
        rows = targets.ndim == 2 and targets.shape[1] > 1 and is_binary(targets)
        if rows and bool((targets.sum(1) == 1).all()):
            warnings.warn(
                "each row has one relevant item: pass its number, as targets.argmax(1), so that the loss rides on "
                "softmax cross-entropy",
                stacklevel=_level_of_user(),
            )


def _kept(values: Tensor, mask: Tensor | None) -> Tensor:
    """With zeros where a mask of these rows or entries leaves something out; any other mask is refused later."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != values.shape[: mask.ndim]:
        return values
    return values.detach().masked_fill(~mask.reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim)), 0)


def _of_labels(scores: Tensor, targets: Tensor) -> bool:
    """Whether targets are class numbers, or 0 and 1."""
    if not targets.ndim or not targets.numel():
        return False
    return scores.ndim == targets.ndim + 1 or is_binary(targets)


def _level_of_user() -> int:
    """The stack level of whoever called the loss, seen from the caller: torch's frames between differ in number."""
    frame, level = sys._getframe(1), 1
    passed = ("metricgrad", "torch", "contextlib")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in passed:
        frame, level = frame.f_back, level + 1
    return level
