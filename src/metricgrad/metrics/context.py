"""The one place where what comes along with a batch is checked: masks, query groups, weights, head sizes.

Besides scores and targets a metric or a loss takes, by keyword, tensors on the device of the scores, shaped like the
leading axes of the targets or the first of them; what it does not take it refuses:

- ``mask``: booleans, False where something is left out: rows, or single entries of scores shaped like their targets
  (labels that are missing). Averages over rows, columns or queries then go over what each of them has left.
- ``sample_weight``: numbers from 0 up, not all 0. A row of weight 2 counts as two; metrics of queries weigh whole
  queries: one value for each of the rows ``(N, C)``, or with ``groups`` one for each query, in ascending order of
  their numbers, or for each item the same within a query.
- ``groups``: integers from 0, the query of each item. Metrics of labels take them too, as the image, sentence or person
  of each: the value is then the mean over those on which the metric is defined.
- ``head_sizes``: numbers above 0, in pixels; see :mod:`metricgrad.metrics.layouts.heat_maps`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.value_range import ranges_of

CONTEXT = ("groups", "mask", "sample_weight", "head_sizes")
#: Where entries of (N, C) targets are masked one by one: the column or row of each that is left. Our own.
PARTS = "parts"

_LEAST, _MOST = 1e-30, 1e30  # beyond these, products of a few weights leave float64


def given_names(context: Mapping[str, object], takes: Collection[str], who: str) -> list[str]:
    """The names of what was given, None counting as not given.

    Args:
        context: by name.
        takes: the names that are read besides ``mask``.
        who: reads them, for messages.

    Raises:
        MetricgradError: for a name that is not taken, with the list of those that are.
    """
    names = [name for name, value in context.items() if value is not None]
    for name in names:
        if name != "mask" and name not in takes:
            known = ", ".join(sorted({"mask", *takes} - {PARTS}))
            if name not in CONTEXT:
                raise MetricgradError(f"unknown context {name!r}; {who} takes {known}")
            raise MetricgradError(f"{who} takes no {name!r}, only {known}; leave it out")
    return names


def refuse_others(others: Collection[str], who: str, takes: Collection[str]) -> None:
    """Refuse keywords that a function does not take.

    Raises:
        MetricgradError: for the first of them, with the list of those it takes.
    """
    for name in others:
        mended = "pass scores[mask] and targets[mask]" if name == "mask" else "leave it out"
        raise MetricgradError(f"{who} takes no {name!r}, only {', '.join(takes)}; {mended}")


def checked_context(
    context: Mapping[str, Tensor | None],
    lead: torch.Size,
    device: torch.device,
    *,
    takes: Collection[str],
    who: str,
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The mask and the rest of the context, each checked and as one value for each of the batch's items.

    Args:
        context: what the caller gave; None counts as not given.
        lead: the axes of the batch that count items.
        device: of the batch.
        takes: the names that are read besides ``mask``.
        who: reads them, for messages.

    Returns:
        Tensors of shape ``lead``. A tensor may be shaped like the first of these axes and is then repeated over the
        others; ``sample_weight`` may have one value for each query, in ascending order of the numbers in ``groups``.

    Raises:
        MetricgradError: for a name that is not taken; for what is no tensor, has another shape or dtype, or is on
            another device; and where the mask keeps them, for negative groups, weights that are negative, not finite,
            all zero or beyond 1e-30 to 1e30, and head sizes that are not finite and above 0.
    """
    names, given = given_names(context, takes, who), {}
    for name in sorted(names, key=(*CONTEXT, PARTS).index):  # groups before the weights of queries
        value = context[name]
        check_tensor(name, value)
        assert value is not None
        if value.device != device:
            raise MetricgradError(
                f"{name} is on {value.device} and the batch on {device}; move it: {name}.to({device})"
            )
        _DTYPES[name](name, value)
        if name == "sample_weight" and value.ndim == 1 and "groups" in given and value.shape != lead[:1]:
            value = _for_each_query(value, given["groups"])
        given[name] = _spread(name, value, lead)
    mask = given.pop("mask", None)
    for name, value in given.items():
        kept = value if mask is None else value[mask]
        if kept.numel():
            _RANGES[name](name, *ranges_of(kept)[0])
    return mask, given


def _spread(name: str, value: Tensor, lead: torch.Size) -> Tensor:
    if not value.ndim or value.shape != lead[: value.ndim]:
        raise MetricgradError(
            f"{name} has shape {tuple(value.shape)} where the batch has {tuple(lead)} items; expected one value for "
            f"each row, of that shape{f' or {tuple(lead[:1])}' if len(lead) > 1 else ''}"
        )
    return value.reshape(*value.shape, *(1,) * (len(lead) - value.ndim)).expand(lead)


def weights_of_items(context: Mapping[str, Tensor | None]) -> Mapping[str, Tensor | None]:
    """The same context with weights of queries, one for each, repeated for the items of each.

    Raises:
        MetricgradError: where there are as many as neither queries nor items.
    """
    weight, groups = context.get("sample_weight"), context.get("groups")
    if not isinstance(weight, Tensor) or not isinstance(groups, Tensor):
        return context
    if weight.ndim != 1 or groups.ndim != 1 or not len(groups) or len(weight) == len(groups):
        return context
    return {**context, "sample_weight": _for_each_query(weight, groups)}


def _for_each_query(weight: Tensor, groups: Tensor) -> Tensor:
    numbers, which = groups.clamp(min=-1).unique(return_inverse=True)
    if int(numbers[0]) < 0:  # no query: what the mask leaves out
        numbers, which = numbers[1:], (which - 1).clamp(min=0)
    if len(weight) != len(numbers):
        raise MetricgradError(
            f"sample_weight has {len(weight)} values for {len(numbers)} queries of {groups.numel()} items; pass one "
            "for each query, in ascending order of their numbers, or one for each item"
        )
    return weight[which]


def _boolean(name: str, value: Tensor) -> None:
    if value.dtype != torch.bool:
        raise MetricgradError(
            f"{name} has dtype {value.dtype}; expected booleans, True where an item counts: {name} > 0"
        )


def _integer(name: str, value: Tensor) -> None:
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise MetricgradError(f"{name} have dtype {value.dtype}; pass the integer query of each item, as {name}.long()")


def _real(name: str, value: Tensor) -> None:
    if value.is_complex() or value.dtype == torch.bool:
        raise MetricgradError(f"{name} has dtype {value.dtype}; expected real numbers: {name}.float()")


def _from_zero(name: str, low: float, high: float) -> None:
    if low < 0:
        raise MetricgradError(
            f"{name} go down to {low:g}; queries are numbered from 0: leave other items out with mask="
        )


def _weights(name: str, low: float, high: float) -> None:
    if not 0 <= low <= high < torch.inf:
        raise MetricgradError(f"{name} runs from {low:g} to {high:g}; weights are finite numbers from 0 up")
    if high == 0:
        raise MetricgradError(f"{name} is zero everywhere, so nothing counts; leave items out with mask=")
    if not _LEAST <= high <= _MOST:
        raise MetricgradError(f"{name} runs up to {high:g}; divide the weights by their mean: only ratios matter")


def _sizes(name: str, low: float, high: float) -> None:
    if not 0 < low <= high < torch.inf:
        raise MetricgradError(f"{name} run from {low:g} to {high:g}; expected finite numbers above 0, in pixels")


_DTYPES: dict[str, Callable[[str, Tensor], None]] = {
    "mask": _boolean,
    "groups": _integer,
    "sample_weight": _real,
    "head_sizes": _real,
    PARTS: _integer,
}
_RANGES: dict[str, Callable[[str, float, float], None]] = {
    "groups": _from_zero,
    "sample_weight": _weights,
    "head_sizes": _sizes,
    PARTS: _from_zero,
}
