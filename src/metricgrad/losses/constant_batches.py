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


class ConstantBatches:
    """Counts batches without a gradient in a row; says each kind of them once, and stops at the twentieth.

    Targets that are all the same say nothing about the metric: such a batch neither counts nor breaks the row, and
    where the metric is undefined on it that is said.
    """

    def __init__(self) -> None:
        self._known = OnHost(int)  # so that nobody waits for the count where it stays 0
        self._said: set[tuple[NoGradient, bool]] = set()

    def ended(self, count: Tensor) -> None:
        """A batch had a gradient.

        Args:
            count: 0-d, how many there were so far without one; changed in place.
        """
        if self._known.of(count):
            self._known.wrote(count.zero_(), 0)

    def met(self, count: Tensor, metric: Metric, cause: NoGradient | None, targets: Tensor, reason: str = "") -> None:
        """One batch.

        Args:
            count: 0-d, how many there were so far without a gradient; changed in place.
            metric: named in the message.
            cause: why there is no gradient; None where there is one.
            targets: of the batch.
            reason: what a metric that raises said.

        Raises:
            MetricgradError: at the twentieth in a row.
        """
        if cause is None:
            return self.ended(count)
        message = f"metric {metric.name!r} {cause.what}" + (f" ({reason})" if reason else "")
        if ranges_of(targets)[0].constant:
            if cause is UNDEFINED:
                self._say(cause, True, f"{message}; all its targets are the same")
            return
        number = self._known.of(count) + 1
        self._known.wrote(count.fill_(number), number)
        self._say(cause, False, f"{message}; {_MOST} such batches in a row are an error")
        if number >= _MOST:
            raise MetricgradError(f"{message}, for the {_MOST}th time in a row. {cause.remedy}")

    def _say(self, cause: NoGradient, one_class: bool, message: str) -> None:
        if (cause, one_class) not in self._said:
            self._said.add((cause, one_class))
            warnings.warn(message, stacklevel=7)
