"""What the hand-made classification losses share: reading one batch, columns one against the rest, checked options."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.metrics.decoding import canonical, log_odds


def labelled(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One batch in the package's shapes, with whole targets.

    Args:
        scores: logits, any shape of :mod:`metricgrad.metric`.
        targets: class numbers from 0 for scores with one more axis, otherwise 0 and 1; integer, boolean or float.
        mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

    Returns:
        ``(N,)`` or ``(N, C)`` scores in float32 or float64, and either ``(N,)`` int64 classes or 0/1 targets with the
        shape and dtype of the scores.

    Raises:
        MetricgradError: for other shapes or values.
    """
    scores, targets = canonical(scores, targets, mask)
    elementwise = scores.shape == targets.shape
    labels = targets.long()
    if targets.numel():
        classes = 2 if elementwise else scores.shape[-1]
        if not bool(((labels == targets) & (labels >= 0) & (labels < classes)).all()):
            raise MetricgradError(
                f"targets of dtype {targets.dtype} have values other than the whole numbers 0 to {classes - 1}; "
                "leave ignored entries out with a mask, and round soft labels: (targets > 0.5)"
            )
    return scores, labels.to(scores.dtype) if elementwise else labels


def mean_of_columns(loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Tensor) -> Tensor:
    """The mean over columns, each one against the rest, of a loss of ``(N,)`` scores and ``(N,)`` booleans.

    Columns without a positive or without a negative are left out; where none is left the value is zero with a zero
    gradient. Class scores are ranked by their log-odds, as the metrics rank them.
    """
    if not targets.numel():
        return (scores * 0).sum()
    if scores.shape != targets.shape:
        scores, targets = log_odds(scores, False), nn.functional.one_hot(targets, scores.shape[1])
    positive = (targets > 0).reshape(len(scores), -1)
    columns = scores.reshape(positive.shape)
    mixed = (positive.any(0) & ~positive.all(0)).nonzero()[:, 0].tolist()
    if not mixed:
        return (scores * 0).sum()
    return torch.stack([loss(columns[:, c], positive[:, c]) for c in mixed]).mean()


def checked_number(name: str, value: object, *, zero: bool = False, most: float = math.inf) -> float:
    """A finite option above 0 (from 0 where ``zero``) and up to ``most``.

    Raises:
        MetricgradError: naming the option.
    """
    number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    if math.isfinite(number) and (number > 0 or (zero and number == 0)) and number <= most:
        return number
    low = "from 0" if zero else "above 0"
    high = "" if math.isinf(most) else f" up to {most:g}"
    raise MetricgradError(f"{name} is {value!r}; expected a finite number {low}{high}")


def checked_whole(name: str, value: object, *, least: int | None = None) -> int:
    """A whole-number option, ``least`` or more.

    Raises:
        MetricgradError: naming the option.
    """
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return value
    raise MetricgradError(f"{name} is {value!r}; expected a whole number{'' if least is None else f' from {least}'}")
