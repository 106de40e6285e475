"""UniLoss's form: the metric itself, interpolated over configurations of its comparisons.

The four steps of the paper: scores are compared (Eq. 5 to 7), comparisons become decisions (Eq. 4 and 9), the metric is
called on configurations of the decisions, and its values there are interpolated at the soft decisions (Eq. 10).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.constant_batches import CONSTANT, UNDEFINED, ConstantBatches, NoGradient
from metricgrad.losses.interpolated.batch_losses import nothing
from metricgrad.losses.interpolated.bounds import Bounds, Estimate, bounds_of, distance_from_ideal
from metricgrad.losses.interpolated.direct import direct_loss
from metricgrad.losses.interpolated.ideal_check import IdealCheck
from metricgrad.losses.interpolated.inverse_distance import Anchors, far_value
from metricgrad.losses.interpolated.lists.neighbours import NeighbourLists, has_pairs
from metricgrad.losses.interpolated.lists.ranked_lists import ranked_lists
from metricgrad.losses.interpolated.lists.soft_lists import soft_lists
from metricgrad.losses.interpolated.local import budget, local_value
from metricgrad.losses.interpolated.options import Interpolation, Softness, check_options, check_refactoring, require
from metricgrad.losses.interpolated.saved import Found, renamed
from metricgrad.losses.interpolated.softness import follow, held_softness, read, softness_of
from metricgrad.losses.interpolated.warm_up import warmed
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.of_counts import OfCounts, OfNeighbours
from metricgrad.metrics.of_pairs import OfLists
from metricgrad.metrics.types import Structure
from metricgrad.on_host import OnHost
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch, bounded_batch, with_room
from metricgrad.refactoring.differentiable import Differentiable, of_classes
from metricgrad.refactoring.from_structure import for_batch
from metricgrad.refactoring.infer import probe_once
from metricgrad.refactoring.moves import MoveRequest
from metricgrad.refactoring.row_order import by_content


class Interpolated(Form):
    r"""The metric as a loss, :math:`|g(\text{ideal}) - \tilde g(\text{scores})|`, zero when ideal, in the metric's
    units.

    Two interpolations:

    - ``"local"`` (default): the metric is called on the current scores after single moves (an entry changes side, a row
      its class, an item its rank), and each move counts as much as the soft decisions have already made it. It is the
      one whose gradient depends most on the metric. Where no move changes the metric, though it is not ideal, the batch
      falls back on inverse distances.
    - ``"inverse_distance"``: UniLoss's Eq. 10 over good, bad and nearby anchors. Close to metric-blind on rankings.

    Not for metrics that are differentiable already: those are used as they are.

    Args:
        metric: what to train on.
        refactoring: what the metric reads; by default the metric's own, or found by probing at the first batch.
        interpolation: ``"local"`` or ``"inverse_distance"``.
        softness: the temperature that divides comparisons: a positive number, ``"once"`` (the mean absolute comparison
            of the first batch, at most 1 and at least 0.5; for embeddings 0.15 of it, at least 0.01) or ``"auto"``
            (follows it slowly, which removes the pull to grow margins).
        q: tail exponent in (0, 1] of local moves of labels; 1 is the plain expectation (most robust to label noise),
            towards 0 the gradient no longer vanishes on entries that are badly wrong.
        share: share in (0, 1] of the comparisons looked at in each step.
        warm_up: steps over which a standard loss is blended out: cross-entropy, or the squared error of graded targets.
        anchors: of each type, for inverse distances; up to 10,000.
        flips: decisions moved in a good or nearby anchor.
        power: of the inverse distance.
        calls: how many times a foreign metric may be called in one step; anchors come on top where no move changes it.
        check_finite: raise on non-finite scores.
    """

    kind: ClassVar[str] = "interpolated"
    _names: ClassVar[tuple[str, ...]] = (
        "interpolation", "softness", "q", "share", "warm_up", "anchors", "flips", "power", "calls", "check_finite",
    )  # fmt: skip
    holds_still: ClassVar[bool] = True
    constant_batches: Tensor

    def __init__(
        self,
        metric: Metric,
        *,
        refactoring: Refactoring | None = None,
        interpolation: Interpolation = "local",
        softness: float | Literal["auto", "once"] = "once",
        q: float = 0.5,
        share: float = 1.0,
        warm_up: int = 0,
        anchors: int = 16,
        flips: int = 2,
        power: float = 1.0,
        calls: int = 48,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        require(isinstance(metric, Metric), "metric", metric, "what mg.as_metric gives, such as mg.as_metric('f1')")
        check_refactoring(refactoring)
        check_options(
            interpolation=interpolation, softness=softness, power=power, q=q, share=share, warm_up=warm_up,
            anchors=anchors, flips=flips, calls=calls,
        )  # fmt: skip
        require(
            share == 1 or interpolation == "local", "share", share,
            "1 with interpolation='inverse_distance', which takes whole score sets (paper=True takes a share)",
        )  # fmt: skip
        require(
            warm_up == 0 or not metric.layout.of_embeddings, "warm_up", warm_up,
            "0: a metric of embeddings has no cross-entropy to start from",
        )  # fmt: skip
        self.metric, self.class_targets = metric.of_read_batches(), metric.class_targets
        self.refactoring = refactoring
        self.interpolation: Interpolation = interpolation
        self.softness: Softness = softness
        self.q, self.share, self.warm_up = q, share, warm_up
        self.anchors, self.flips, self.power, self.calls = anchors, flips, power, calls
        self.check_finite = check_finite
        start = math.nan if isinstance(softness, str) else math.log(softness)
        self.log_softness = nn.Parameter(torch.tensor(start), requires_grad=False)
        self.register_buffer("constant_batches", torch.zeros((), dtype=torch.long))
        self._constant = ConstantBatches()
        self.register_load_state_dict_pre_hook(renamed)
        self._found: Structure | None = None
        self._known_softness = OnHost(read)
        self.ideal_check = IdealCheck(self.metric)
        #: How far the scores of the last batch were from ideal ones; None where the value says so itself.
        self.away: float | None = None

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d; zero with a zero gradient, and a warning, where the metric is undefined or nothing can change it."""
        batch = bounded_batch(self.metric, scores, targets, context, check_finite=self.check_finite)
        self.away = 0.0
        if batch.targets.numel() == 0:
            return nothing(batch.scores)
        structure = self.structure_of(batch)
        if structure is not None and structure.kind == "differentiable":
            self.away = None
            found = direct_loss(self.metric, batch, of_classes(structure, self.metric), self.ideal_check)
            self._warn(UNDEFINED if found is None else None, batch, call)
            return nothing(batch.scores) if found is None else found

        closed = self._in_closed_form(batch, structure, call) if self.interpolation == "local" else None
        if closed is not None:
            return closed
        dtype, generator = batch.scores.dtype, call.generator()
        batch, refactoring = self._reading(batch, structure)
        bounds = bounds_of(self.metric, batch, refactoring, generator)
        if not math.isfinite(bounds.read[1]) or self.ideal_check.is_missing(self.metric, batch, refactoring, bounds):
            self._warn(UNDEFINED, batch, call, bounds.reason)
            return self._warmed(nothing(batch.scores), batch, call)
        self.away = bounds.away(self.metric.higher_is_better)
        self.ideal_check.of_decisions(self.metric, batch, refactoring, bounds)
        softness = self._softness(refactoring, batch, call)
        batch = with_room(batch, self._known_softness.of(self.log_softness))
        estimate = self._interpolate(batch, refactoring, softness, bounds, generator)
        self._warn(None if estimate.informs or bounds.ideal else CONSTANT, batch, call)
        loss = distance_from_ideal(estimate, bounds, self.metric.higher_is_better).mean()
        return self._warmed(loss, batch, call).to(dtype)

    def _in_closed_form(self, batch: Batch, structure: Structure | None, call: CallContext) -> Tensor | None:
        """See :mod:`metricgrad.losses.interpolated.lists.soft_lists`; None where the metric has to be called.

        It is where the softness is to be set, where items tie, and where the metric is undefined or no move changes it.
        """
        path, known = self.metric.fast_path, self._known_softness.of(self.log_softness)
        sets = isinstance(self.softness, str) and (math.isnan(known) or (call.counts and self.softness == "auto"))
        if isinstance(path, OfNeighbours):
            return self._of_neighbours(path, batch, call, sets=sets)
        if not isinstance(path, OfLists) or self.refactoring is not None or self.share < 1:
            return None
        lists = None if sets else ranked_lists(batch, self.refactoring_of(batch, structure), path, together=True)
        if lists is None or not self.ideal_check.believed:
            return None
        path = (path.by_gain or path) if isinstance(path, OfCounts) else path
        batch = with_room(batch, known)
        softness = held_softness(self.log_softness, known, batch.scores)
        found = soft_lists(path, self.metric.fixed, batch, lists[0], softness, q=self.q)
        if found.loss is None or found.tied or not found.informs:
            return None
        self.away = found.away
        self._warn(None, batch, call)
        return self._warmed(found.loss, batch, call)

    def _of_neighbours(self, path: OfNeighbours, batch: Batch, call: CallContext, *, sets: bool) -> Tensor:
        """See :mod:`metricgrad.losses.interpolated.lists.neighbours`."""
        refactoring = self.refactoring_of(batch, self.metric.structure)
        sets = sets and has_pairs(batch.targets)  # of no pairs nothing is near
        held = held_softness(self.log_softness, self._known_softness.of(self.log_softness), batch.scores)
        softness = self._softness(refactoring, batch, call) if sets else held
        lists = NeighbourLists(batch.targets)
        options: dict[str, Any] = {"q": self.q, "share": self.share, "bounded": False}
        found = soft_lists(path.path, self.metric.fixed, batch, lists, softness, **options)
        if found.loss is None:
            self._warn(UNDEFINED, batch, call)
            return nothing(batch.scores)
        if call.counts and not self.ideal_check.believed:
            bounds = bounds_of(self.metric, batch, refactoring, call.generator())
            self.ideal_check.of_decisions(self.metric, batch, refactoring, bounds)
        self.away = found.away
        self._warn(None if found.informs or found.away == 0 else CONSTANT, batch, call)
        return found.loss

    def _softness(self, refactoring: Refactoring, batch: Batch, call: CallContext) -> Tensor:
        """0-d: as given, or as the batches set it; an evaluation before the first step keeps none."""
        if not isinstance(self.softness, str):
            return softness_of(self.log_softness, batch.scores)
        unset = math.isnan(self._known_softness.of(self.log_softness))
        found = follow(self.log_softness, self.softness, refactoring, batch, unset=unset, keep=call.counts)
        # an aligner may move it by its gradient, which what is not kept has none of
        return found if unset and not call.counts else softness_of(self.log_softness, batch.scores)

    def structure_of(self, batch: Batch) -> Structure | None:
        """What is known of the metric, or found by probing at the first batch; None of decisions chosen by hand."""
        if self.refactoring is not None:
            self.refactoring.check_batch(batch)
            return self.refactoring.structure if isinstance(self.refactoring, Differentiable) else None
        if self.metric.structure is None and self._found is None:
            stack, targets = batch.as_called(batch.scores.detach()[None])
            self._found = probe_once(self.metric, stack[0], targets, **batch.context)
        return self.metric.structure or self._found

    def _reading(self, batch: Batch, structure: Structure | None) -> tuple[Batch, Refactoring]:
        """What the metric reads of the batch, and the batch in an order that no draw for its rows can depend on."""
        refactoring = self.refactoring_of(batch, structure)
        drawn = self.interpolation == "inverse_distance" or refactoring.draws_rows(
            batch.scores, budget(self.metric, batch, self.calls)
        )
        if not drawn and not batch.context.keys() - {"groups"}:
            return batch, refactoring
        batch = self._ordered(batch)
        return batch, self.refactoring_of(batch, structure)  # what it holds of each row has the order of the rows

    @property
    def known(self) -> Structure | None:
        """What is known of the metric so far."""
        return self.metric.structure or self._found

    def refactoring_of(self, batch: Batch, structure: Structure | None) -> Refactoring:
        """The refactoring given, or what the structure is for this batch."""
        if self.refactoring is not None:
            return self.refactoring
        assert structure is not None
        return for_batch(structure, batch, self.metric)

    def _ordered(self, batch: Batch) -> Batch:
        has_rows = batch.frame is None and self.metric.layout.of_rows
        return by_content(batch) if has_rows and batch.order is None else batch

    def _interpolate(
        self, batch: Batch, refactoring: Refactoring, softness: Tensor, bounds: Bounds, generator: torch.Generator
    ) -> Estimate:
        """The metric at configurations of the decisions, interpolated at the soft decisions."""
        if self.interpolation == "local":
            request = MoveRequest(
                batch.scores, batch.targets, softness, q=self.q, budget=budget(self.metric, batch, self.calls),
                share=self.share, generator=generator, groups=batch.groups,
            )  # fmt: skip
            found = local_value(self.metric, batch, refactoring, bounds.current, request)
            if found.informs or bounds.reached:
                return found
            # where no single move helps, as for a geometric mean with two classes never found, anchors still do
        batch = self._ordered(batch)
        anchors = Anchors(self.anchors, self.flips, self.power)
        return far_value(self.metric, batch, refactoring, bounds.current, anchors, softness, generator)

    def _warn(self, cause: NoGradient | None, batch: Batch, call: CallContext, reason: str = "") -> None:
        if call.counts and call.step >= self.warm_up:
            self._constant.met(self.constant_batches, self.metric, cause, batch.targets, reason)

    def _warmed(self, loss: Tensor, batch: Batch, call: CallContext) -> Tensor:
        return warmed(loss, self.metric.layout, batch, call.step, self.warm_up)

    @property
    def of_logits(self) -> bool:
        """As the metric."""
        return self.metric.takes_logits

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one.

        Raises:
            MetricgradError: for a refactoring passed by hand, which no file can hold.
        """
        if self.refactoring is not None:
            raise MetricgradError(
                "a loss with a refactoring= of its own cannot be saved: build it again and load its state_dict"
            )
        return self._options()

    def _options(self) -> dict[str, Any]:
        return {"metric": self.metric.spec, **{name: getattr(self, name) for name in self._names}}

    def extra_repr(self) -> str:
        """The metric and every option, so that two losses of one repr are one loss."""
        options = {
            **self._options(),
            "refactoring": type(self.refactoring).__name__,
            "metric": self.metric.spec or self.metric.name,
        }
        return ", ".join(f"{name}={value!r}" for name, value in options.items())

    def knobs(self) -> dict[str, Knob]:
        """``log_softness``: from a hundredth to ten times the softness given, or 1 where it sets itself."""
        given = 0.0 if isinstance(self.softness, str) else math.log(self.softness)
        return {"log_softness": Knob(self.log_softness, given - math.log(100), given + math.log(10))}

    def get_extra_state(self) -> dict[str, Any] | None:
        """What probing found, so that a resumed run does not probe again."""
        if self._found is None:
            return None
        return {"kind": self._found.kind, "exchangeable": self._found.exchangeable, "params": dict(self._found.params)}

    def set_extra_state(self, state: Found | None) -> None:
        """Restore what probing found."""
        self._found = None if state is None else Structure(state["kind"], state["exchangeable"], state["params"])
