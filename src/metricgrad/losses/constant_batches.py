"""Batches that teach nothing: said once, and an error after twenty in a row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.on_host import OnHost
from metricgrad.value_range import ranges_of

_MOST = 20


@dataclass(frozen=True)
class NoGradient:
    """Why a batch has no gradient.

    Attributes:
        what: said of the metric.
        remedy: what to do where it stays so.
    """

    what: str
    remedy: str


CONSTANT = NoGradient(
    "has the same value on every score set tried on this batch, so its gradient is zero",
    "Use larger or stratified batches, warm_up= or interpolation='inverse_distance', or check that reads=, order= and "
    "the targets are what the metric expects",
)
UNDEFINED = NoGradient(
    "is undefined on this batch, even for ideal scores, so it adds 0 to the loss and nothing to its gradient, which is "
    "no ideal",
    "Use larger or stratified batches that hold what the metric needs, as every class, a class twice, or a positive "
    "and a negative; leave out classes that never come, or judge by a metric that is defined without them",
)


def warn_of_constant_batch(
    count: Tensor, known: OnHost[int], metric: Metric, cause: NoGradient | None, targets: Tensor, reason: str = ""
) -> None:
    """Count batches without a gradient in a row; warn of the first, stop at the twentieth.

    Targets that are all the same say nothing about the metric: such a batch neither counts nor breaks the row, and
    where the metric is undefined on it that is said.

    Args:
        count: 0-d, how many there were so far; changed in place.
        known: the same number, so that nobody waits where it stays 0.
        metric: named in the message.
        cause: why there is no gradient; None where there is one.
        targets: of the batch.
        reason: what a metric that raises said.

    Raises:
        MetricgradError: at the twentieth in a row.
    """
    if cause is None:
        if known.of(count):
            known.wrote(count.zero_(), 0)
        return
    message = f"metric {metric.name!r} {cause.what}" + (f" ({reason})" if reason else "")
    if ranges_of(targets)[0].constant:
        if cause is UNDEFINED:
            warnings.warn(f"{message}; all its targets are the same", stacklevel=6)
        return
    number = known.of(count) + 1
    known.wrote(count.fill_(number), number)
    if number == 1:
        warnings.warn(f"{message}; {_MOST} such batches in a row are an error", stacklevel=6)
    if number >= _MOST:
        raise MetricgradError(f"{message}, for the {_MOST}th time in a row. {cause.remedy}")
