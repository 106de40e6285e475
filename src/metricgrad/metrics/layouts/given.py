"""Batches in the user's own shape, for callables that nobody described: images stay images, sentences sentences.

A callable gets scores, probabilities or labels, and targets, laid out as the user passed them: ``(N, H, W)`` scores
with ``(N, H, W)`` targets, ``(N, T, C)`` with ``(N, T)``, any number of axes after the first. Only a column of one is
dropped: ``(N, 1)`` scores become ``(N,)``, and ``(N, T, 1)`` with ``(N, T)`` targets ``(N, T)``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.context import checked_context
from metricgrad.metrics.decoding import fitting


def prepare_given(
    stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], *, takes: frozenset[str], name: str
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Score sets, targets and context, all in the shapes they came in.

    A callable with an argument ``mask`` gets it and the whole batch, with zeros for the scores of what is left out. For
    any other, a mask over the first axis leaves rows (images, sentences) out; one over single entries is refused, since
    a list of what is left is no image any more.

    Args:
        stack: ``(S, N, ...)`` logits.
        targets: ``(N, ...)``, in the shape of the scores or with one axis less.
        context: what the caller gave, see :func:`metricgrad.metrics.context.checked_context`; handed on in the
            shape it came in.
        takes: the names the callable takes.
        name: the metric's, for messages.

    Raises:
        MetricgradError: for shapes that do not fit, or a mask that the callable cannot be told of.
    """
    stack, targets = fitting(stack, targets)
    checked_context(context, targets.shape, targets.device, takes=takes, who=f"metric {name!r}")
    given = {key: value for key, value in context.items() if value is not None}
    if stack.shape[1:] == targets.shape and targets.shape[1:] == (1,):
        given = {key: value.squeeze(1) if value.shape == targets.shape else value for key, value in given.items()}
        stack, targets = stack.squeeze(-1), targets.squeeze(-1)
    if "mask" not in given:
        return stack, targets, given
    mask = given["mask"]
    if "mask" in takes:
        rest = stack.ndim - 1 - mask.ndim
        return stack.masked_fill(~mask.reshape(*mask.shape, *(1,) * rest), 0.0), targets, given
    if mask.ndim > 1:
        raise MetricgradError(
            f"metric {name!r} has no argument 'mask', and a mask of shape {tuple(mask.shape)} takes its rows apart; "
            "give the function one (it then gets the whole batch and the mask), mask whole rows with a mask of shape "
            f"({len(mask)},), or pool the entries: pass scores[mask] and targets[mask], or say what is ignored, "
            f"as_metric({name}, ..., ignore_index=-100)"
        )
    kept = {key: value[mask] if len(value) == len(mask) else value for key, value in given.items() if key != "mask"}
    return stack[:, mask], targets[mask], kept
