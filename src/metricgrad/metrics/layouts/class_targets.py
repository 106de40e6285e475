"""Scores and targets of classes, as people have them: where the classes stand, what is ignored, what counts as a yes.

Everything below this reads scores whose classes are on the last axis, ``(N, ..., C)`` with ``(N, ...)`` targets.
:func:`torch.nn.functional.cross_entropy` takes them on axis 1, ``(N, C, ...)``, and so do the networks written for it.
The shape of the targets tells the two apart; where both fit, as of ``(8, 8, 8)`` scores with ``(8, 8)`` targets, it has
to be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

ClassDim = Literal[1, -1]
Context = Mapping[str, Tensor | None]


@dataclass(frozen=True)
class ClassTargets:
    """How a batch of classes is read; as it stands, but for the axis that its shape tells, by default.

    Args:
        class_dim: the axis of the scores that holds the classes; None: told by the shape of the targets.
        ignore_index: targets of this number are left out, as if a mask said so. Any whole number.
        pos_label: of yes-or-no targets, the one that is a yes; all others are a no. One score for each target is its
            logit, but for ``pos_label=0``: then it is that of 1, as ever, and turned round. Of two classes the score is
            the difference of the two logits.

    Raises:
        MetricgradError: for another axis, and for what is no whole number.
    """

    class_dim: ClassDim | None = None
    ignore_index: int | None = None
    pos_label: int | None = None

    def __post_init__(self) -> None:
        check_class_dim(self.class_dim)
        for name in ("ignore_index", "pos_label"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise MetricgradError(f"{name} is {value!r}; expected a whole number, one of the targets")
        if self.pos_label is not None and self.pos_label == self.ignore_index:
            raise MetricgradError(f"pos_label and ignore_index are both {self.pos_label}; what is a yes is not ignored")

    def said(self, class_dim: ClassDim | None) -> ClassTargets:
        """The same, with an axis that was told before, where none is said."""
        return self if class_dim is None or self.class_dim is not None else replace(self, class_dim=class_dim)

    def read(
        self, scores: Tensor, targets: Tensor, context: Context, *, stacked: int = 0
    ) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
        """One batch with its classes last and what is ignored in its mask; what is no batch at all as it came.

        Args:
            scores: ``(N, C, ...)``, ``(N, ..., C)``, or in the shape of the targets.
            targets: ``(N, ...)``.
            context: what comes along, in the shape of the targets' leading axes.
            stacked: leading axes of the scores before N.

        Raises:
            MetricgradError: where both readings fit and none is said, where the one that is said does not fit, and for
                ``pos_label`` with more than two classes.
        """
        context = dict(context)
        if not isinstance(scores, Tensor) or not isinstance(targets, Tensor) or not targets.ndim:
            return scores, targets, context
        if axis_of(scores.shape[stacked:], targets.shape, self.class_dim) == 1:
            scores = scores.movedim(stacked + 1, -1)
        if self.ignore_index is not None:
            kept, given = ~_are(targets, self.ignore_index), context.get("mask")
            if isinstance(given, Tensor) and given.dtype == torch.bool and given.shape == kept.shape[: given.ndim]:
                kept = kept & given.reshape(*given.shape, *(1,) * (kept.ndim - given.ndim))
            elif given is not None:
                return scores, targets, context  # a mask that is refused where masks are read
            context["mask"] = kept
        if self.pos_label is not None:
            scores, targets = _yes_or_no(scores, targets, self.pos_label, stacked)
        return scores, targets, context

    def answers(self, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted labels and targets, 1 for the yes where there is a ``pos_label``: it is among two labels, or 1."""
        if self.pos_label is None:
            return labels, targets
        return labels if self.pos_label else 1 - labels, _are(targets, self.pos_label).long()

    def pairs(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> tuple[Tensor, ...]:
        """:meth:`read`, and what is ignored taken out, so that no mask is needed; then the context, where given.

        Entries that are left of images or sentences are one list.

        Raises:
            MetricgradError: also for single entries of ``(N, C)`` targets, whose columns belong together.
        """
        scores, targets, given = self.read(scores, targets, context)
        kept = given.pop("mask", None)
        rest = [value for value in given.values() if value is not None]
        if kept is None or bool(kept.all()):
            return scores, targets, *rest
        if scores.shape == targets.shape and targets.ndim == 2 and targets.shape[1] > 1 and not _whole_rows(kept):
            raise MetricgradError(
                f"ignore_index={self.ignore_index} takes single entries out of {tuple(targets.shape)} targets, whose "
                "columns belong together; here only whole rows can be left out"
            )
        spread = [value.reshape(*value.shape, *(1,) * (kept.ndim - value.ndim)).expand(kept.shape) for value in rest]
        return scores[kept], targets[kept], *(value[kept] for value in spread)


def axis_of(scores: torch.Size, targets: torch.Size, class_dim: ClassDim | None) -> ClassDim:
    """The axis of the classes in scores of this shape: 1 where they have to be moved, -1 where they stand last.

    Raises:
        MetricgradError: where both fit and none is said, and where another one fits than is said.
    """
    if len(scores) != len(targets) + 1 or len(scores) < 3:
        return -1
    first, last = scores[:1] + scores[2:] == targets, scores[:-1] == targets
    if first and last and class_dim is None and scores[1] > 1:
        size = scores[1]
        raise MetricgradError(
            f"scores of shape {tuple(scores)} with targets {tuple(targets)} have two readings: {size} classes on axis "
            f"1, as torch.nn.functional.cross_entropy takes them, or {size} classes on the last axis; say which with "
            "class_dim=1 or class_dim=-1, where the metric or the loss is made"
        )
    found: ClassDim = (class_dim or -1) if first and last else 1 if first else -1
    if class_dim is not None and first != last and found != class_dim:
        raise MetricgradError(
            f"class_dim is {class_dim}, but of scores {tuple(scores)} with targets {tuple(targets)} the classes are on "
            f"axis {found}; leave class_dim out, or pass scores of the other shape"
        )
    return found


def tells(scores: torch.Size, targets: torch.Size) -> bool:
    """Whether these shapes alone say which axis it is."""
    if len(scores) != len(targets) + 1 or len(scores) < 3:
        return False
    return (scores[:1] + scores[2:] == targets) != (scores[:-1] == targets)


def check_class_dim(class_dim: object) -> None:
    """Refuse another axis than 1 and the last.

    Raises:
        MetricgradError: naming both.
    """
    if class_dim not in (None, 1, -1) or isinstance(class_dim, bool):
        raise MetricgradError(
            f"class_dim is {class_dim!r}; expected 1, as torch.nn.functional.cross_entropy has it, or -1 for the last"
        )


def _yes_or_no(scores: Tensor, targets: Tensor, pos_label: int, stacked: int) -> tuple[Tensor, Tensor]:
    """One logit of the yes for each target, and zeros and ones."""
    yes = _are(targets, pos_label).long()
    if scores.ndim - stacked == targets.ndim + 1 and scores.shape[-1] == 1:
        scores = scores.squeeze(-1)
    if scores.ndim - stacked == targets.ndim + 1:
        if scores.shape[-1] != 2 or pos_label not in (0, 1):
            raise MetricgradError(
                f"pos_label is {pos_label}, and the scores are of {scores.shape[-1]} classes; it is of yes-or-no "
                "targets: one score for each, or two classes 0 and 1"
            )
        logit = scores[..., pos_label] - scores[..., 1 - pos_label]
    else:
        logit = scores if pos_label else -scores
    # a tie is class 0, on whichever side that now is
    return (logit if pos_label else logit + (logit == 0) * torch.finfo(logit.dtype).tiny), yes


def _are(targets: Tensor, number: int) -> Tensor:
    """Which are this number; none where their dtype does not hold it, as bytes hold no -100."""
    if not targets.is_floating_point() and targets.dtype != torch.bool:
        held = torch.iinfo(targets.dtype)
        if not held.min <= number <= held.max:
            return torch.zeros_like(targets, dtype=torch.bool)
    return targets == number


def _whole_rows(mask: Tensor) -> bool:
    return bool((mask == mask[:, :1]).all())
