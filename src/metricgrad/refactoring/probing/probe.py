"""What a metric reads from the scores, found by calling it on scores that keep one reading and change everything else.

The metric is called on synthetic scores of graded quality for the given targets, never on the model's own: an untrained
network predicts one class, and there a threshold, an argmax and a ranking all look alike. From the least a metric can
read to the most: predicted labels, membership in the top k, positives over negatives, a ranking. The first reading that
determines the value is the finding, for it needs the fewest comparisons. An invariance counts only on score sets where
the metric varies, so a metric that is constant on all of them gives no evidence, and no finding.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch, checked
from metricgrad.refactoring.direction import refuse_wrong_direction
from metricgrad.refactoring.probing.batch import ProbeBatch, given_batch, poverty, synthetic_batch
from metricgrad.refactoring.probing.caller import Caller, Trial
from metricgrad.refactoring.probing.search import Search


@dataclass(frozen=True)
class Finding:
    """What probing found.

    Attributes:
        metric: its name.
        structure: what it reads; None where nothing held.
        calls: how often it was called.
        tried: the invariances in the order in which they were tried.
        values: lowest and highest value on the scores of graded quality; None where it has none.
        graded: the values themselves, that of the ideal scores first; NaN where the metric raised.
        notes: what to know of the batch, and what to do where nothing held.
    """

    metric: str
    structure: Structure | None
    calls: int
    tried: tuple[Trial, ...]
    values: tuple[float, float] | None
    graded: tuple[float, ...]
    notes: tuple[str, ...]

    def report(self) -> str:
        """What was tried and found, in lines to print."""
        lines = [f"metric {self.metric!r}, called {self.calls} times on synthetic scores, from ideal to upside down"]
        if self.values is not None:
            lines.append("its values there: {:.4g} to {:.4g}".format(*self.values))
        lines += [f"  {trial.verdict:<12}{trial.invariance} ({trial.detail})" for trial in self.tried]
        lines += list(self.notes)
        lines.append(f"found: {describe(self.structure)}")
        return "\n".join(lines)


def describe(structure: Structure | None) -> str:
    """A structure in one line."""
    if structure is None:
        return "nothing"
    params = ", ".join(f"{key}={value}" for key, value in structure.params.items())
    swaps = f"exchangeable: {structure.exchangeable}" if structure.kind != "differentiable" else ""
    return ", ".join(filter(None, (structure.kind, params, swaps)))


def probe(metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Finding:
    """Find what a metric reads from the scores.

    For metrics that nobody described; a described one carries its structure. Costs at most 200 calls of the metric, 10
    to 70 as a rule, on batches of the given size.

    Args:
        metric: any.
        scores: ``(N,)``, ``(N, C)``, or any other shape that a callable of one's own takes; only their shape and device
            are looked at, and their dtype for a metric that takes no float64.
        targets: as the metric takes them.
        context: ``groups``, ``mask``, ``sample_weight`` or ``head_sizes``, where the metric takes them.

    Returns:
        The finding, whose structure is None where nothing held. The same arguments give the same finding.

    Raises:
        MetricgradError: for scores and targets that do not fit each other.

    Example:
        >>> import torch, metricgrad as mg
        >>> def accuracy(labels, targets): return (labels == targets).double().mean()
        >>> metric = mg.as_metric(accuracy, higher_is_better=True, reads="labels")
        >>> finding = probe(metric, torch.randn(40, 3), torch.arange(40) % 3)
        >>> finding.structure.kind, finding.structure.exchangeable
        ('labels', 'all')
    """
    given = checked(metric, scores, targets, context, check_finite=False)
    batch = given_batch(given)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        caller = _caller(metric, batch)
        search = Search(caller)
        structure = search.run()
    finite = caller.finite
    values = (min(finite), max(finite)) if finite else None
    graded = tuple(math.nan if value is None else value for value in caller.values)
    return Finding(metric.name, structure, caller.calls, tuple(search.tried), values, graded, tuple(search.notes))


def defined_elsewhere(metric: Metric, batch: Batch) -> bool:
    """Whether a foreign metric that raised on a batch has a value on made-up targets, so that the batch is at fault.

    Costs eight calls of the metric.
    """
    if metric.batched or not metric.layout.of_decisions:
        return False
    generator = torch.Generator().manual_seed(0)
    made_up = synthetic_batch(given_batch(batch), "it raised", generator)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        value = Caller(metric, made_up, generator).values[0]
    return value is not None and math.isfinite(value)


def check_direction(metric: Metric, scores: Tensor, targets: Tensor, **context: Tensor | None) -> None:
    """Refuse a direction that the metric's own values contradict: see :mod:`metricgrad.refactoring.direction`.

    For metrics of rows; costs eight calls.

    Raises:
        MetricgradError: where ideal scores have the worst value of all.
    """
    if not metric.layout.of_decisions:
        return
    given = checked(metric, scores, targets, context, check_finite=False)
    batch = given_batch(given)
    if poverty(batch):
        return
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        values = Caller(metric, batch, torch.Generator().manual_seed(0)).values
    ideal, *others = (math.nan if value is None else value for value in values)
    refuse_wrong_direction(metric, ideal, others)


def _caller(metric: Metric, batch: ProbeBatch) -> Caller:
    """The given targets if the metric varies on them, else made-up ones."""
    generator = torch.Generator().manual_seed(0)
    calls = 0
    reason = poverty(batch)
    if not reason:
        caller = _precise(metric, batch, generator, calls)
        if caller.alive:
            return caller
        calls = caller.calls
        reason = f"on the given ones the metric {'raised ' + caller.error if caller.error else 'did not vary'}"
    return _precise(metric, synthetic_batch(batch, reason, generator), generator, calls)


def _precise(metric: Metric, batch: ProbeBatch, generator: torch.Generator, calls: int) -> Caller:
    """In float64, where the softmaxes of many rows do not become ties; as given for a metric that raises on that."""
    caller = Caller(metric, dataclasses.replace(batch, like=wide(batch.like)), generator, calls)
    if caller.alive or not caller.error or batch.like.dtype == torch.float64:
        return caller
    return Caller(metric, batch, generator, caller.calls)
