"""Batches of sentences: ``(N, T, V)`` scores of the words at each place, ``(N, T)`` target words, kept in sentences.

Targets below 0 are padding, at the end of a sentence; a ``mask`` shaped like the targets makes more of it. Scores at
padded places are not thrown away: where the metric knows an end token, what a model says there is part of its answer
until it says the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import checked_context
from metricgrad.metrics.decoding import floating
from metricgrad.value_range import are_whole, ranges_of


def prepare_sequences(
    stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: Collection[str] = (), name: str
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Score sets and targets of one batch of sentences, checked.

    Args:
        stack: ``(S, N, T, V)`` scores.
        targets: ``(N, T)`` words from 0, and below 0 for padding.
        context: what the caller gave; None counts as not given.
        takes: the names that are read besides ``mask``.
        name: the metric's, for messages.

    Returns:
        The scores in float32 or float64, int64 targets with -1 for padding, and the context as ``(N, T)``.

    Raises:
        MetricgradError: for other shapes, words out of range, a word after padding, or other context.
    """
    check_tensor("scores", stack)
    check_tensor("targets", targets)
    if targets.ndim != 2 or stack.ndim != 4 or stack.shape[1:-1] != targets.shape:
        raise MetricgradError(
            f"metric {name!r} reads sentences: expected scores (N, T, V) of the words at each place with targets "
            f"(N, T), got {tuple(stack.shape[1:])} and {tuple(targets.shape)}"
        )
    stack = floating(stack, targets)
    mask, given = checked_context(context, targets.shape, targets.device, takes=takes, who=f"metric {name!r}")
    words = targets.detach().long()
    if not are_whole(targets):
        raise MetricgradError(f"metric {name!r} needs whole numbers of words, got {targets.dtype} with fractions")
    if mask is not None:
        words = words.masked_fill(~mask, -1)
    words = words.clamp(min=-1)
    if words.numel() and (high := ranges_of(targets if mask is None else words)[0].high) >= stack.shape[-1]:
        raise MetricgradError(
            f"metric {name!r}: targets run to {high:.0f}, but the scores are of the words 0 to {stack.shape[-1] - 1}"
        )
    kept = words >= 0
    if bool((kept[:, 1:] & ~kept[:, :-1]).any()):
        raise MetricgradError(f"metric {name!r}: a sentence goes on after padding; padding stands at the end")
    return stack, words, given


def sentences(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One checked batch of ``(N, T, V)`` scores and ``(N, T)`` words, sentence by sentence."""
    check_tensor("scores", scores)
    stack, words, _ = prepare_sequences(scores[None], targets, {}, name="of sentences")
    return stack[0], words


def lasting(words: Tensor, end: int | None) -> Tensor:
    """``(..., T)`` booleans: the places before the first end token or padding."""
    over = words == -1
    if end is not None:
        over = over | (words == end)
    return over.cumsum(-1) == 0
