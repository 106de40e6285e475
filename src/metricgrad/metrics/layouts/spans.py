"""Batches of answer spans: ``(N, 2, L)`` start and end scores over the L tokens of a passage, ``(N, 2)`` positions.

Positions are the first and the last token of the answer, both inside it, counted from 0. The model has given padding
scores far below those of real tokens, finite ones: decoding then never picks it. A ``mask`` ``(N,)`` leaves whole
passages out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import checked_context
from metricgrad.metrics.decoding import floating
from metricgrad.value_range import are_whole, ranges_of


def prepare_spans(
    stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: Collection[str] = (), name: str
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Checked passages, those that the mask keeps.

    Args:
        stack: ``(T, N, 2, L)`` scores.
        targets: ``(N, 2)`` positions, of any dtype that holds whole numbers.
        context: what the caller gave; None counts as not given.
        takes: the names that are read besides ``mask``.
        name: of the metric or loss, for messages.

    Returns:
        ``(T, N, 2, L)`` scores in float32 or float64, ``(N, 2)`` int64 positions, and the context as ``(N,)``.

    Raises:
        MetricgradError: for other shapes, positions outside the passage, an end before its start, or other context.
    """
    check_tensor("scores", stack)
    check_tensor("targets", targets)
    if stack.ndim != 4 or stack.shape[2] != 2 or targets.shape != stack.shape[1:3]:
        raise MetricgradError(
            f"{name!r} reads answer spans: expected scores (N, 2, L), as torch.stack([start, end], 1), with targets "
            f"(N, 2), the first and last token of each answer, got {tuple(stack.shape[1:])} and {tuple(targets.shape)}"
        )
    stack = floating(stack, targets)
    mask, given = checked_context(context, targets.shape[:1], targets.device, takes=takes, who=f"metric {name!r}")
    if mask is not None:
        stack, targets = stack[:, mask], targets[mask]
        given = {key: value[mask] for key, value in given.items()}
    positions = targets.detach().long()
    if positions.numel():
        low, high = ranges_of(targets)[0]
        if not (0 <= low <= high < stack.shape[3] and are_whole(targets)):
            raise MetricgradError(
                f"targets hold positions {low:g} to {high:g}; expected whole numbers from 0 to {stack.shape[3] - 1}, "
                "one less than the passage's tokens; leave other passages out with mask="
            )
        if bool((positions[:, 1] < positions[:, 0]).any()):
            raise MetricgradError("targets hold an answer that ends before it starts; expected (first, last) tokens")
    return stack, positions, given


def best_spans(scores: Tensor, max_length: int | None = None) -> Tensor:
    """The first and last token of the span with the largest sum of start and end score, among those start <= end.

    Of equal sums the earliest start wins, then the earliest end.

    Args:
        scores: ``(..., 2, L)`` start and end scores.
        max_length: the most tokens a span may have; None for any.

    Returns:
        ``(..., 2)`` int64.

    Raises:
        MetricgradError: for a ``max_length`` below 1.

    Cost: O(L) for each row, O(L max_length) where that is given.

    Example:
        >>> best_spans(torch.tensor([[0.0, 3.0, 1.0], [4.0, 0.0, 2.0]]))
        tensor([1, 2])
    """
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise MetricgradError(f"max_length is {max_length!r}; expected a whole number of tokens, 1 or more, or None")
    start, end = scores.unbind(-2)
    length = scores.shape[-1]
    if max_length is None or max_length >= length:
        value, place = end.flip(-1).cummax(-1)
        first = (start + value.flip(-1)).argmax(-1, keepdim=True)
        last = length - 1 - place.gather(-1, length - 1 - first)
    else:
        windows = nn.functional.pad(end, (0, max_length - 1), value=-torch.inf).unfold(-1, max_length, 1)
        value, offset = windows.max(-1)
        first = (start + value).argmax(-1, keepdim=True)
        last = first + offset.gather(-1, first)
    return torch.cat([first, last], -1)
