"""The metric to first order where the last decisions stand: UniLoss's part of a loss that rides on another."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob, Parts, Told, ordinary
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.constant_batches import CONSTANT, UNDEFINED, ConstantBatches, NoGradient
from metricgrad.losses.interpolated.batch_losses import ALONE, OVER_TO_METRIC, TO_FLOOR, BatchLosses, lost, no_losses
from metricgrad.losses.interpolated.bounds import Bounds, bounds_of
from metricgrad.losses.interpolated.hit_losses import hit_losses
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.label_losses import LabelLosses
from metricgrad.losses.interpolated.lists.entry_lists import EntryLists, entry_lists
from metricgrad.losses.interpolated.lists.list_losses import ListLoss, OneList, agrees, many_lists
from metricgrad.losses.interpolated.lists.ranked_lists import RankedLists, ranked_lists
from metricgrad.losses.interpolated.lists.soft_tables import soft_tables
from metricgrad.losses.interpolated.memory import Memory
from metricgrad.losses.interpolated.utility_table import UtilityTable
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.fast_paths import OfHits
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.metrics.of_pairs import OfLists
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch, bounded_batch
from metricgrad.refactoring.direction import beats
from metricgrad.refactoring.probing.probe import defined_elsewhere
from metricgrad.refactoring.top_k import TopK
from metricgrad.value_range import ranges_of

Way = Callable[[Batch, CallContext], BatchLosses]


class Linearized(Form):
    r"""The metric as losses that are linear in the decisions' effect, for a base that trains beside them.

    What it is made of follows from what the metric reads:

    - labels of rows: expected cost-sensitive losses, :mod:`metricgrad.losses.interpolated.expected_utility`, of what
      each decision is worth to the metric at the last ``memory`` decisions. Two losses.
    - the first k classes of rows: :mod:`metricgrad.losses.interpolated.hit_losses`. One loss.
    - one ranked list of positives and negatives, without weights, queries or a mask:
      :mod:`metricgrad.losses.interpolated.lists.secants` over a memory of half as many scores.
    - many lists, which are columns, rows or queries: :mod:`metricgrad.losses.interpolated.lists.list_secants`; those
      whose items weigh, one list too: :mod:`metricgrad.losses.interpolated.lists.weighted_secants`.
    - many lists of yes or no: :mod:`metricgrad.losses.interpolated.lists.soft_tables`. One loss.
    - graded NDCG, Spearman: :mod:`metricgrad.losses.interpolated.lists.rank_secants`; Kendall: ``lists.rank_pairs``.
    - anything else: the local interpolation of the batch, :class:`Interpolated` at a softness of 1.

    Use it in :class:`metricgrad.losses.composite.anchored.Anchored`, as ``UniLoss(metric)`` does. Not alone: from
    scratch a linearised metric sends rows where it pays at chance, and they do not come back.

    Args:
        metric: what to train on.
        memory: decisions of the last rows that the metric is looked at on; scores of lists are half as many.
        calls: of a foreign metric in one step, beside those that the first batches take. One of scikit-learn or
            torchmetrics that has a built-in twin is called on the first three steps and every 256th, to see that both
            agree; where they do not, it is called as any other from then on.
        q: tail exponent in (0, 1] of the expected utility of labels.
        softness: of whatever is interpolated locally.
        check_finite: raise on non-finite scores.

    The value is the metric's distance from its ideal value on the memory with the batch, in the metric's units.
    """

    kind: ClassVar[str] = "linearized"
    most_parts: ClassVar[int] = 2
    holds_still: ClassVar[bool] = True
    constant_batches: Tensor

    def __init__(
        self,
        metric: Metric,
        *,
        memory: int = 1024,
        calls: int = 16,
        q: float = 0.5,
        softness: float = 1.0,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        self.memory = checked_whole("memory", memory, least=2)
        self.calls = checked_whole("calls", calls, least=4)
        self.q, self.softness, self.check_finite = q, softness, check_finite
        self._informed = self._graded = False
        self.local = Interpolated(metric, calls=calls, q=q, softness=softness, check_finite=check_finite)
        self.labels, self.scores = Memory(memory), Memory(memory // 2)
        self.utilities, self.class_targets = UtilityTable(self.metric), metric.class_targets
        self._rows = LabelLosses(self.metric, self.labels, self.utilities, calls=calls, q=q)
        self._list = OneList(self.scores, self._rows.twin, calls)
        self.register_buffer("constant_batches", torch.zeros((), dtype=torch.long))
        self._constant = ConstantBatches()

    @property
    def metric(self) -> Metric:
        """What it trains on."""
        return self.local.metric

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d: the metric's distance from ideal, with the gradient of the sum of its losses."""
        with torch.inference_mode(False), torch.enable_grad():
            plain = {name: ordinary(value) for name, value in context.items()}
            leaf = ordinary(scores).detach().requires_grad_()
            parts = self.parts(leaf, ordinary(targets), call=call, **plain)
            shown = parts.shown
            if isinstance(shown, Told):
                shown = leaf.new_full((), shown.say([float(number) for number in shown.numbers]))
        assert shown is not None
        if not torch.is_grad_enabled():
            return shown
        return shown + sum(loss - loss.detach() for loss in parts.again(scores))

    def parts(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Parts:
        """See the class."""
        batch = bounded_batch(self.metric, scores, targets, context, check_finite=self.local.check_finite)
        way = self._way(batch, call) if batch.targets.numel() else None
        if way is None:
            return self._locally(batch, scores, targets, call, context)
        try:
            with torch.no_grad():
                found = way(batch, call)
        except MetricgradError as error:
            if not defined_elsewhere(self.metric, batch):
                raise
            self._warn(UNDEFINED, torch.nan, torch.nan, batch, call, str(error))
            found = no_losses(batch.scores)
        return found.parts(self.metric, batch, scores, targets, context)

    def _way(self, batch: Batch, call: CallContext) -> Way | None:
        """How the metric is linearised on a memory of batches like this; None where it is interpolated locally."""
        if ranges_of(batch.scores)[0].has_nan:
            return lost
        structure = self.local.structure_of(batch)
        if structure is None or structure.kind == "differentiable" or batch.frame is not None:
            return None
        found = self._closed_form(batch, structure, call)
        if found is not None and call.counts and not self.local.ideal_check.believed:
            refactoring, bounds = self._bounds(batch, call)
            missing = self.local.ideal_check.is_missing(self.metric, batch, refactoring, bounds)
            if math.isfinite(bounds.read[1]) and not missing:
                self.local.ideal_check.of_decisions(self.metric, batch, refactoring, bounds)
        return found

    def _closed_form(self, batch: Batch, structure: Structure, call: CallContext) -> Way | None:
        twin, one_list = self._rows.twin, batch.scores.ndim == 1 and not batch.context
        path, of_lists = twin.path, batch.targets.ndim > 1 or bool(batch.context.keys() - {"sample_weight"})
        if of_lists and (entries := entry_lists(path, batch, structure)) is not None:
            return functools.partial(self._of_entries, entries)
        graded = isinstance(path, OfLists) and self._are_graded(batch, call)
        if isinstance(path, OfCounts) and path.by_gain is not None and graded:
            path = path.by_gain
        if isinstance(path, OfLists) and not (one_list and isinstance(path, OfCounts)):
            lists = ranked_lists(batch, self.local.refactoring_of(batch, structure), path)
            if lists is not None and agrees(twin, path, lists, batch, call):
                return functools.partial(self._of_lists, path, lists, graded)
        if batch.targets.ndim > 1 or batch.scores.ndim > 2 or structure.exchangeable in ("sample", "none"):
            return None
        if isinstance(path, OfHits) and batch.context.keys() <= {"sample_weight"}:
            return self._of_hits
        if structure.kind == "labels" and batch.context.keys() <= {"sample_weight"}:
            return self._of_labels
        listed = isinstance(path, OfCounts) or structure.kind == "positives_over_negatives"
        return self._of_list if listed and one_list else None

    def _of_labels(self, batch: Batch, call: CallContext) -> BatchLosses:
        """UCE and EXP of rows, see :mod:`metricgrad.losses.interpolated.label_losses`."""
        found = self._rows.of(batch, step=call.step, keep=call.counts)

        def say(numbers: Sequence[float]) -> float:
            now, ideal, worth = numbers
            missing = beats(self.metric, now, ideal) and self._lacks_ideal(batch, call)
            if ideal != ideal or missing:  # undefined on this batch: then on the memory
                now, ideal = found.on_memory().tolist()
            if missing and beats(self.metric, now, ideal):
                now = ideal = math.nan
            return self._said(worth > 0, now, ideal, batch, call)

        shown = Told((*found.values, found.worth), say)
        return BatchLosses(found.gradients, found.losses, shown, OVER_TO_METRIC, found.cross_entropy)

    def _lacks_ideal(self, batch: Batch, call: CallContext) -> bool:
        constant = ranges_of(batch.targets)[0].constant
        return constant and self.local.ideal_check.is_missing(self.metric, batch, *self._bounds(batch, call))

    def _bounds(self, batch: Batch, call: CallContext) -> tuple[Refactoring, Bounds]:
        refactoring = self.local.refactoring_of(batch, self.local.structure_of(batch))
        return refactoring, bounds_of(self.metric, batch, refactoring, call.generator())

    def _of_hits(self, batch: Batch, call: CallContext) -> BatchLosses:
        """HIT of rows, see :mod:`metricgrad.losses.interpolated.hit_losses`."""
        refactoring = self.local.refactoring_of(batch, self.local.structure_of(batch))
        assert isinstance(refactoring, TopK)
        if call.counts:
            self._constant.ended(self.constant_batches)
        return hit_losses(self.metric, batch, refactoring, softness=self.softness, q=self.q)

    def _of_list(self, batch: Batch, call: CallContext) -> BatchLosses:
        """Secants of one list, or of many, see :mod:`metricgrad.losses.interpolated.lists.list_losses`."""
        found = self._list.of(batch, step=call.step, keep=call.counts, called=self._called)
        if found is None:
            now, ideal = self._called(batch).tolist()
            self._warn(UNDEFINED, now, ideal, batch, call)
            return no_losses(batch.scores)
        return self._told(found, batch, call)

    def _of_entries(self, lists: EntryLists, batch: Batch, call: CallContext) -> BatchLosses:
        """EXP of decisions in lists, see :mod:`metricgrad.losses.interpolated.lists.soft_tables`."""
        found = soft_tables(self.metric, batch, lists, q=self.q)
        if call.counts and self._rows.twin.due(call.step):
            self._rows.twin.compare((found.now,), lambda: self._called(batch)[:1])
        return replace(self._told(found, batch, call), ramps=OVER_TO_METRIC)

    def _of_lists(
        self, path: OfLists, lists: Sequence[RankedLists], graded: bool, batch: Batch, call: CallContext
    ) -> BatchLosses:
        found = many_lists(path, self._rows.twin.options, batch, lists, q=self.q if graded else None)
        return replace(self._told(found, batch, call), ramps=ALONE if graded else TO_FLOOR, matched=not graded)

    def _told(self, found: ListLoss, batch: Batch, call: CallContext) -> BatchLosses:
        values = found.now, found.ideal

        def say(read: Sequence[float]) -> float:
            informs, *numbers = read
            known = iter(numbers)
            now, ideal = (next(known) if isinstance(value, Tensor) else value for value in values)
            return self._said(informs > 0 and ideal == ideal, now, ideal, batch, call)

        shown = Told((found.informs, *(value for value in values if isinstance(value, Tensor))), say)
        return BatchLosses((found.gradient,), lambda s: (found.loss(s),), shown, TO_FLOOR, found.cross_entropy)

    def _called(self, batch: Batch) -> Tensor:
        """``(2,)``: the metric of the batch, and of ideal scores, which are where targets are above 0."""
        scores = batch.scores.detach()
        ideal = torch.where(batch.targets > 0, 1.0, -1.0).to(scores)
        return batch.values(self.metric, torch.stack([scores, ideal]))

    def _said(self, informs: bool, now: float, ideal: float, batch: Batch, call: CallContext) -> float:
        """The distance from ideal; warns where there is no gradient.

        A metric that has told decisions apart may be silent where all are right.
        """
        self._informed = self._informed or informs
        silent = informs or (math.isclose(now, ideal) and self._informed)
        self._warn(None if silent else CONSTANT, now, ideal, batch, call)
        away = ideal - now if self.metric.higher_is_better else now - ideal
        return away if math.isfinite(away) else 0.0

    def _warn(
        self, cause: NoGradient | None, now: float, ideal: float, batch: Batch, call: CallContext, reason: str = ""
    ) -> None:
        if call.counts:
            cause = cause if ideal == ideal or cause is None else UNDEFINED
            self._constant.met(self.constant_batches, self.metric, cause, batch.targets, reason)
            self.local.ideal_check.tell_of_better(self.metric, now, ideal)

    def _locally(
        self, batch: Batch, scores: Tensor, targets: Tensor, call: CallContext, context: Mapping[str, Tensor | None]
    ) -> Parts:
        parts = self.local.parts(scores, targets, call=call, **context)
        assert parts.losses is not None
        away = self.local.away
        shown = parts.losses[0].detach() if away is None else scores.new_full((), away)
        known = self.local.known
        ranks = known is not None and known.kind in ("ranking", "positives_over_negatives")
        graded = ranks and self._are_graded(batch, call)
        alone = known is not None and known.kind == "differentiable"
        alone |= graded and self.metric.batched  # a few calls of a foreign metric say too little to train by alone
        ramps = ALONE if alone else TO_FLOOR if ranks and not graded else OVER_TO_METRIC
        return replace(parts, shown=shown, base_weight=ramps[0], weight=ramps[1], matched=not alone)

    def _are_graded(self, batch: Batch, call: CallContext) -> bool:
        """Whether targets of rankings are other numbers than 0 and 1, in what the metric reads or in a batch before."""
        found = self._graded or (batch.targets.shape == batch.scores.shape and not is_binary(batch.targets))
        if call.counts:
            self._graded = found
        return found

    def forget(self) -> None:
        """Empty the memories, and what was learned from them."""
        for held in (self.labels, self.scores, self.utilities):
            held.forget()
        self._graded = False

    @property
    def of_logits(self) -> bool:
        """As the metric."""
        return self.local.of_logits

    def knobs(self) -> dict[str, Knob]:
        """None: what it is made of has no scale of its own."""
        return {}

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        names = ("memory", "calls", "q", "softness", "check_finite")
        return {"metric": self.metric.spec, **{name: getattr(self, name) for name in names}}

    def get_extra_state(self) -> dict[str, Any]:
        """Whether the metric itself is called, because its twin once had another value, and of what it remembers."""
        return {"left": self._rows.twin.left, "columns": self._rows.columns, "graded": self._graded}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self._rows.twin.left, self._rows.columns = state["left"], state.get("columns")
        self._graded = state.get("graded", False)

    def extra_repr(self) -> str:
        """The metric and every option."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())
