"""Metrics of extractive answers: token F1 and exact match of the best span."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.metric import Structure
from metricgrad.metrics.decoding import wide
from metricgrad.metrics.registry import register


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


def _structure(*, max_length: int | None) -> Structure:
    best_spans(torch.zeros(2, 1), max_length)
    return Structure("span_ends", "none")


@register("span_f1", reads="scores", structure=_structure, layout="spans")
def span_f1(read: Tensor, targets: Tensor, *, max_length: int | None = None) -> Tensor:
    """Mean F1 of the tokens in the best span against those of the answer.

    Tokens count by their position. SQuAD's official score counts words, without articles and punctuation: where no word
    repeats within the two spans the two agree, and elsewhere words found in a wrong place count there and not here.

    Args:
        read: ``(T, N, 2, L)`` start and end scores; see :func:`best_spans` for what is read of them.
        targets: ``(N, 2)`` first and last token.
        max_length: the most tokens an answer may have.
    """
    found = best_spans(read, max_length)
    common = torch.minimum(found[..., 1], targets[:, 1]) - torch.maximum(found[..., 0], targets[:, 0]) + 1
    sizes = (found[..., 1] - found[..., 0]) + (targets[:, 1] - targets[:, 0]) + 2
    return (2 * wide(common.clamp(min=0)) / sizes).mean(-1)


@register("exact_match", reads="scores", structure=_structure, layout="spans")
def exact_match(read: Tensor, targets: Tensor, *, max_length: int | None = None) -> Tensor:
    """Share of passages whose best span is the answer.

    Args:
        read: ``(T, N, 2, L)`` start and end scores; see :func:`best_spans` for what is read of them.
        targets: ``(N, 2)`` first and last token.
        max_length: the most tokens an answer may have.
    """
    return wide((best_spans(read, max_length) == targets).all(-1)).mean(-1)
