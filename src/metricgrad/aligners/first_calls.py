"""What a loss says once, at its first calls in training, and never looks at again."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import ClassVar

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
    warn_of_probabilities,
    within_unit,
)
from metricgrad.outside_graphs import transformed

_FEWEST_LISTS = 8
_ALONG = ("groups", "sample_weight")


class FirstCalls:
    """Looks at the rows of the first calls, 50 at least, and at whether anything ever moves the loss.

    Attributes:
        one_each: what is said where each row of the first batch of eight rows or more has one 1 among zeros.
        attended: whether the loss was attached, fitted or given feedback.
        judged: whether validation batches steer it, of which nobody has said yet that they are without context.
    """

    one_each: ClassVar[str] = (
        "each row of targets has one 1 among zeros, and such rows are read as one yes or no for each column: where it "
        "is the class of the row, pass its number, as targets.argmax(1)"
    )

    def __init__(self) -> None:
        self.attended = self.judged = False
        self._calls = self._rows = 0
        self._seen = self._counted = False

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

        Warns:
            UserWarning: of what is seen, once.

        Raises:
            MetricgradError: for NaN among the scores or the targets that the mask keeps.
        """
        self._calls += 1
        mask = context.get("mask")
        if not self._seen:
            self._look_at(form, scores, targets, mask, check_finite)
        if not self._counted and targets.shape == scores.shape and _are_rows(targets):
            self._counted = True
            # a mask of entries says that they are each by itself, and hides of which rows more than one is a yes
            of_entries = isinstance(mask, Tensor) and mask.shape == targets.shape
            if self._reads_rows(form) and not of_entries and _has_one_each(targets):
                warnings.warn(self.one_each, stacklevel=_level_of_user())
        if self.judged and (given := [name for name in _ALONG if context.get(name) is not None]):
            self.judged = False
            warnings.warn(
                f"this call came with {' and '.join(given)}, and the validation batches that {type(aligner).__name__} "
                "judges by are scores and targets alone: all their rows count, alike and as one list; lay queries out "
                "as rows of scores, (N, C), or judge by a metric of rows",
                stacklevel=_level_of_user(),
            )
        if self._calls == 2 and not self.attended and (missing := aligner.unattended()) is not None:
            warnings.warn(missing, stacklevel=_level_of_user())

    def _reads_rows(self, form: Form) -> bool:
        """Whether classes of rows would be another loss than the columns of zeros and ones that they may come as."""
        return form.of_logits

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
    """Of a loss that ranks each row by itself."""

    one_each: ClassVar[str] = (
        "each row has one relevant item: pass its number, as targets.argmax(1), so that the loss rides on softmax "
        "cross-entropy"
    )

    def _reads_rows(self, form: Form) -> bool:
        """Always."""
        return True


def _are_rows(targets: Tensor) -> bool:
    """Whether they are ``(N, C)``, several rows of several columns."""
    return targets.ndim == 2 and len(targets) >= _FEWEST_LISTS and targets.shape[1] > 1 and not transformed(targets)


def _has_one_each(targets: Tensor) -> bool:
    """Whether each row has one 1 among zeros."""
    return is_binary(targets) and bool((targets.sum(1) == 1).all())


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
