"""Metrics of extractive answers: token F1 and exact match of the best span."""

from __future__ import annotations

import torch
from torch import Tensor

from metricgrad.metrics.layouts.layout import SPANS
from metricgrad.metrics.layouts.spans import best_spans
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide


def _structure(*, max_length: int | None) -> Structure:
    best_spans(torch.zeros(2, 1), max_length)
    return Structure("span_ends", "none")


@register("span_f1", reads="scores", structure=_structure, layout=SPANS)
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


@register("exact_match", reads="scores", structure=_structure, layout=SPANS)
def exact_match(read: Tensor, targets: Tensor, *, max_length: int | None = None) -> Tensor:
    """Share of passages whose best span is the answer.

    Args:
        read: ``(T, N, 2, L)`` start and end scores; see :func:`best_spans` for what is read of them.
        targets: ``(N, 2)`` first and last token.
        max_length: the most tokens an answer may have.
    """
    return wide((best_spans(read, max_length) == targets).all(-1)).mean(-1)
