"""UniLoss's form: the metric itself, interpolated over configurations of its comparisons."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.functional.interpolation import inverse_distance_weighting, released_gradient
from metricgrad.functional.leak import leaky_sigmoid, margins
from metricgrad.losses.base import Draw, Form, Knob
from metricgrad.losses.constant_batches import CONSTANT, UNDEFINED, Silence, listen
from metricgrad.losses.interpolated.direct import direct_value, poor_scores
from metricgrad.losses.interpolated.move_values import change_by_rows, change_by_words, of_answers
from metricgrad.losses.interpolated.options import check_options
from metricgrad.metrics.decoding import wide
from metricgrad.metrics.families.counts import of_counts
from metricgrad.metrics.layouts.sentences import of_sentences
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.anchors import bit_anchors, corrupted, realise, score_anchors
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch, checked, with_room
from metricgrad.refactoring.differentiable import Differentiable
from metricgrad.refactoring.direction import ROUNDING, beats, refuse_wrong_direction
from metricgrad.refactoring.from_structure import from_structure
from metricgrad.refactoring.infer import agreed, probe_once
from metricgrad.refactoring.probing.probe import defined_elsewhere
from metricgrad.refactoring.row_order import RowOrder, by_content
from metricgrad.refactoring.tokens import Tokens

Interpolation = Literal["local", "inverse_distance"]
Paper = Literal["published", "released"]

_ELEMENTS = 2**21


class _Params(TypedDict, total=False):
    k: int
    within: Literal["all", "sample", "row", "column", "group"]


class Found(TypedDict):
    """A structure that probing found, as a file has it."""

    kind: Literal["labels", "top_k", "positives_over_negatives", "ranking", "differentiable"]
    exchangeable: Literal["all", "column", "row", "sample", "none"]
    params: _Params


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
            of the first batch, at most 1 and, for labels, at least 0.5; for embeddings 0.15 of it) or ``"auto"``
            (follows it slowly, which removes the pull to grow margins).
        q: tail exponent in (0, 1] of local moves of labels; 1 is the plain expectation (most robust to label noise),
            towards 0 the gradient no longer vanishes on entries that are badly wrong.
        share: share in (0, 1] of the comparisons looked at in each step.
        warm_up: steps over which a standard loss is blended out: cross-entropy, or the squared error of graded targets.
        anchors: of each type, for inverse distances; up to 10,000.
        flips: decisions moved in a good or nearby anchor.
        power: of the inverse distance.
        calls: how many times a foreign metric may be called in one step; anchors come on top where no move changes it.
        paper: bit flips instead of score sets: ``"published"``, or ``"released"`` for the released code's anchors.
        gradient: ``"released"`` reproduces the sign error in the released backward pass; only with inverse distances.
        check_finite: raise on non-finite scores.
    """

    kind: ClassVar[str] = "interpolated"
    silent: Tensor

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
        paper: Paper | None = None,
        gradient: Literal["true", "released"] = "true",
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        check_options(
            metric, refactoring, interpolation=interpolation, softness=softness, q=q, share=share, warm_up=warm_up,
            anchors=anchors, flips=flips, power=power, calls=calls, paper=paper, gradient=gradient,
        )  # fmt: skip
        self.metric = metric
        self.refactoring = refactoring
        self.interpolation: Interpolation = interpolation
        self.softness = softness
        self.q, self.share, self.warm_up = q, share, warm_up
        self.anchors, self.flips, self.power, self.calls = anchors, flips, power, calls
        self.paper: Paper | None = paper
        self.gradient: Literal["true", "released"] = gradient
        self.check_finite = check_finite
        start = math.nan if isinstance(softness, str) else math.log(softness)
        self.log_softness = nn.Parameter(torch.tensor(start), requires_grad=False)
        self.register_buffer("silent", torch.zeros((), dtype=torch.long))
        self._found: Structure | None = None
        # a built-in metric has its direction from its definition; a batch may well have no better scores than others
        self._believed = metric.spec is not None and metric.batched
        self._told, self._reason = False, ""

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """0-d; zero with a zero gradient, and a warning, where the metric is undefined or nothing can change it."""
        batch = checked(self.metric, scores, targets, context, check_finite=self.check_finite)
        if batch.targets.numel() == 0:
            return _nothing(batch.scores)
        refactoring = self._refactoring(batch)
        if isinstance(refactoring, Differentiable):
            return self._direct(batch, refactoring, draw)
        generator = draw.generator()
        rows, budget = None, self._budget(batch)
        drawn = refactoring.draws_rows(batch.scores, budget) or self.interpolation == "inverse_distance"
        if self._has_rows(batch) and (drawn or batch.context.keys() - {"groups"}):
            rows = by_content(batch)
            refactoring = self._refactoring(rows.batch)  # what it holds of each row has the order of the rows
        current, best, worst = self._bounds(batch, refactoring, generator, rows)
        if not bool(torch.isfinite(best)):
            self._listen(UNDEFINED, batch, draw)
            return self._warmed(_nothing(batch.scores), batch, draw)
        self._check_ideal(batch, refactoring, current, best, worst)
        softness = self._softness(refactoring, batch, draw)
        dtype, batch = batch.scores.dtype, with_room(batch, softness)
        rows = None if rows is None else RowOrder(with_room(rows.batch, softness), rows.inverse)
        value, now, heard = current, current, torch.zeros((), dtype=torch.bool)
        if self.interpolation == "local":
            value, now, heard = self._local(batch, rows, refactoring, softness, current, generator)
            heard = bool(heard) and bool(
                now.isfinite().all()
            )  # equal scores have no correlation; the orders that break ties do
        if not heard and (self.interpolation == "inverse_distance" or current != best):
            # where no single move helps, as for a geometric mean with two classes never found, anchors still do
            value, heard = self._inverse_distance(batch, rows, refactoring, softness, generator)
            now = current
        alive = bool(heard) or bool((current == best) & (worst != best))
        self._listen(None if alive else CONSTANT, batch, draw)
        return self._warmed(self._in_range(value, now, current, best, worst).mean(), batch, draw).to(dtype)

    @torch.no_grad()
    def _bounds(
        self, batch: Batch, refactoring: Refactoring, generator: torch.Generator, rows: RowOrder | None
    ) -> tuple[Tensor, ...]:
        """The metric now, of ideal scores, and of those turned round; NaN where it raises on this batch alone."""
        if isinstance(refactoring, Tokens) and of_sentences(self.metric) is not None:
            said = refactoring.answers(batch.scores, batch.targets)  # three sets of a vocabulary's scores are long
            return tuple(of_answers(self.metric, said, batch.targets).to(batch.scores))
        given = batch if rows is None else rows.batch
        (ideal,) = refactoring.ideal(given.scores, given.targets, 1, generator, groups=given.groups)
        self._reason = ""
        try:
            sets = torch.stack([given.scores, refactoring.best(ideal, given.targets), -ideal])
            return tuple(self._values(batch, sets, rows))
        except MetricgradError as error:
            if not defined_elsewhere(self.metric, batch):
                raise
            self._reason = str(error)
            return tuple(batch.scores.new_full((3,), torch.nan))

    def _check_ideal(
        self, batch: Batch, refactoring: Refactoring, current: Tensor, best: Tensor, worst: Tensor
    ) -> None:
        """Refuse a direction that the values contradict; say where the scores are better than the presumed ideal."""
        now, ideal, reversed_ = torch.stack([current, best, worst]).tolist()
        self._believed = self._believed or beats(self.metric, ideal, reversed_)
        if not self._believed:
            poor = corrupted(refactoring, batch.scores, batch.targets, groups=batch.groups)
            others = [reversed_, *self._values(batch, poor).tolist()]
            refuse_wrong_direction(self.metric, ideal, others)
            self._believed = any(beats(self.metric, ideal, other) for other in others)
        self._tell_of_better(now, ideal)

    def _tell_of_better(self, now: float, ideal: float) -> None:
        if beats(self.metric, now, ideal) and not self._told:
            self._told = True
            warnings.warn(
                f"metric {self.metric.name!r} is {now:.4g} for these scores and {ideal:.4g} where every decision is as "
                "the targets say, presumed to be ideal: the loss is below 0 where scores are better than that",
                stacklevel=6,
            )

    def _in_range(self, value: Tensor, start: Tensor, current: Tensor, best: Tensor, worst: Tensor) -> Tensor:
        """Distance of the value from the ideal; what a first-order value says beyond the metric's range is mended.

        The value starts from ``start``, one order of scores that tie, which ``current`` may have better than any order.
        It is 0 only where the current scores have the ideal's value, and below 0 only where they have a better one.
        """
        sign = 1.0 if self.metric.higher_is_better else -1.0
        loss, farthest = sign * (best - value), sign * (best - worst)
        shown = loss.detach()
        tied = (start - current).abs() > ROUNDING
        suits = tied & current.isfinite() & (sign * (best - current) <= 0)
        current = torch.where(suits, current, start)
        reached = torch.where(current.isfinite(), sign * (best - current), shown)
        shown = torch.where(suits, torch.zeros_like(shown), shown)
        rounding = ROUNDING * torch.maximum(best.abs(), current.abs()) + 1e-12
        reached = torch.where((reached < 0) & (reached > -rounding), torch.zeros_like(reached), reached)
        shown = torch.where(shown <= 0, reached, shown)
        shown = torch.where(farthest > 0, torch.minimum(shown, torch.maximum(farthest, reached)), shown)
        return shown + (loss - loss.detach())

    def _local(
        self,
        batch: Batch,
        rows: RowOrder | None,
        refactoring: Refactoring,
        softness: Tensor,
        current: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The value for each set that moves start from, the metric before them, and whether any changes it."""
        given = batch if rows is None else rows.batch
        moves = refactoring.moves(
            given.scores, given.targets, softness=softness, q=self.q, budget=self._budget(batch), share=self.share,
            generator=generator, groups=given.groups,
        )  # fmt: skip
        if moves.rows is not None:
            start, change = change_by_rows(self.metric, moves.rows())
            # a batch with every query answered is no silence
            return start + moves.change(change), start, torch.ones(())
        if moves.words is not None and of_sentences(self.metric) is not None:
            start, change = change_by_words(self.metric, moves.words())
            return start.to(current) + moves.change(change), current, (change != 0).any()
        by_counts = of_counts(self.metric) if moves.counts is not None and batch.scores.ndim == 1 else None
        if by_counts is not None and "sample_weight" not in batch.context:
            values = by_counts(moves.counts, moves.negatives, **self.metric.fixed)
        elif moves.labels is not None and self.metric.counts_rows and not batch.context:
            labels = moves.labels()
            values = self.metric.of_labels(labels.predicted, labels.targets, labels.weight)
        elif moves.base is not None:
            values = self._values(batch, torch.cat([moves.base, moves.stack()]), rows, decoded=moves.ranks)
        else:
            values = torch.cat([current[None], self._values(batch, moves.stack(), rows)])
        starts = 1 if moves.base is None else len(moves.base)
        before, after = values[:starts], values[starts:]
        change = torch.nan_to_num(after - (before if moves.origin is None else before[moves.origin]))
        nothing_tried = len(change) == 0
        reference = current if moves.origin is None else before  # one strict order for each set where scores tie
        return before + moves.change(change), reference, (change != 0).any() | nothing_tried

    def _inverse_distance(
        self,
        batch: Batch,
        rows: RowOrder | None,
        refactoring: Refactoring,
        softness: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        if rows is None and self._has_rows(batch):
            rows = by_content(batch)
        given = batch if rows is None else rows.batch
        scores, targets, groups = given.scores, given.targets, given.groups
        if self.paper is None:
            stack = score_anchors(
                refactoring, scores, targets, each=self.anchors, flips=self.flips, generator=generator, groups=groups
            )
            values = self._values(batch, stack, rows)
            squared = refactoring.squared_distances(scores, targets, stack, softness=softness, groups=groups)
        else:
            comparisons = refactoring.comparisons(scores, targets, groups=groups)
            released = self.paper == "released"
            bits = bit_anchors(
                comparisons.detach() > 0, each=self.anchors, flips=self.flips, released=released, generator=generator
            )
            stack, exact = realise(refactoring, bits, scores, targets, groups=groups)
            values = self._values(batch, stack, rows)
            if released:
                values = torch.where(exact, values, torch.zeros_like(values))
            soft = leaky_sigmoid(margins(comparisons, softness))
            if self.share < 1:
                kept = soft.detach().topk(max(1, round(self.share * len(soft))), largest=False).indices
                soft, bits = soft[kept], bits[:, kept]
            squared = (soft - bits.to(soft)).square().sum(1)
        finite = torch.isfinite(values)
        values, squared = values[finite], squared[finite]
        interpolate = released_gradient if self.gradient == "released" else inverse_distance_weighting
        return interpolate(squared, values.to(squared), self.power), values.max() != values.min()

    def _values(self, batch: Batch, stack: Tensor, rows: RowOrder | None = None, *, decoded: bool = False) -> Tensor:
        """Of score sets in the order of ``rows``, or of the batch."""
        stack = stack if rows is None else rows.restored(stack)
        metric = self.metric.decoded() if decoded else self.metric
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign metric complains of score sets that are odd on purpose
            scores, targets = batch.as_called(stack)
            return metric.over(scores, targets, **batch.context)

    def _has_rows(self, batch: Batch) -> bool:
        """Whether what is drawn for its rows can follow their content."""
        return self.metric.layout in ("rows", "given") and batch.frame is None

    def _budget(self, batch: Batch) -> int:
        if not self.metric.batched:
            return self.calls - 2  # two more for where the moves start and the worst value
        entries = self.metric.layout.elements(batch.scores, batch.targets)
        if batch.scores.ndim == 1 and of_counts(self.metric):
            entries = int(batch.targets.sum()) or entries
        elif batch.scores.ndim > batch.targets.ndim and self.metric.counts_rows:
            entries = 2 * len(batch.targets)
        return max(self.calls, _ELEMENTS // max(1, entries))

    def _direct(self, batch: Batch, refactoring: Differentiable, draw: Draw) -> Tensor:
        value = direct_value(self.metric, batch)
        if not bool(torch.isfinite(value)):
            self._listen(UNDEFINED, batch, draw)
            return _nothing(batch.scores)
        self._listen(None, batch, draw)
        with torch.no_grad():
            ideal = refactoring.ideal(batch.scores, batch.targets, 1, torch.Generator())[0]
            best, *others = self._values(batch, torch.cat([ideal[None], self._poor(ideal)]))
        if not bool(torch.isfinite(best)):
            best = torch.zeros_like(value)  # no best value is known, as of a log-density
        else:
            refuse_wrong_direction(self.metric, float(best), [float(other) for other in others])
            self._believed = self._believed or any(beats(self.metric, float(best), float(other)) for other in others)
            self._tell_of_better(float(value.detach()), float(best))
        return best - value if self.metric.higher_is_better else value - best

    def _poor(self, ideal: Tensor) -> Tensor:
        """Scores that ought to be worse than the ideal ones; none once the direction is believed."""
        return poor_scores(ideal)[: 0 if self._believed else None]

    def _refactoring(self, batch: Batch) -> Refactoring:
        if self.refactoring is not None:
            batch.check(self.refactoring)
            return self.refactoring
        structure = self.metric.structure or self._found
        if structure is None:
            stack, targets = batch.as_called(batch.scores.detach()[None])
            structure = self._found = agreed(lambda: probe_once(self.metric, stack[0], targets, **batch.context))
        structure = batch.structure(structure)
        if structure.exchangeable != "none" and batch.context.keys() - {"groups"} - (
            {"head_sizes"} if structure.kind == "peak" else set()
        ):
            structure = Structure(structure.kind, "none", structure.params)  # weights tell entries apart
        sizes = batch.context.get("head_sizes")
        return from_structure(
            structure, batch.scores, batch.targets, self.metric, groups=batch.groups, head_sizes=sizes,
            apart=batch.of_items("sample_weight"),
        )  # fmt: skip

    def _softness(self, refactoring: Refactoring, batch: Batch, draw: Draw) -> Tensor:
        unset = bool(self.log_softness.isnan())
        if isinstance(self.softness, str) and draw.counts and (unset or self.softness == "auto"):
            with torch.no_grad():
                spread = refactoring.spread(batch.scores, batch.targets, groups=batch.groups) * refactoring.relative
                spread = spread.clamp(min=refactoring.sharpest, max=1.0 if self.softness == "once" else None)
                target = spread.log().to(self.log_softness)
                self.log_softness.copy_(target if unset else self.log_softness.lerp(target, 0.01))
        if bool(self.log_softness.isnan()):
            return wide(torch.ones((), device=batch.scores.device))
        return wide(self.log_softness.to(batch.scores.device)).exp()

    def _listen(self, silence: Silence | None, batch: Batch, draw: Draw) -> None:
        if draw.counts and draw.step >= self.warm_up:
            listen(self.silent, self.metric, silence, batch.targets, self._reason)

    def _warmed(self, loss: Tensor, batch: Batch, draw: Draw) -> Tensor:
        if draw.step >= self.warm_up:
            return loss
        from metricgrad.losses.standard_loss import standard_loss

        standard = standard_loss(self.metric.layout)
        weight = draw.step / self.warm_up
        weights = batch.of_items("sample_weight")
        weights = {} if weights is None else {"sample_weight": weights}
        return weight * loss + (1 - weight) * standard(batch.scores, batch.targets, **weights)

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
        names = ("interpolation", "softness", "q", "share", "warm_up", "anchors", "flips", "power", "calls", "paper",
                 "gradient", "check_finite")  # fmt: skip
        return {"metric": self.metric.spec, **{name: getattr(self, name) for name in names}}

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


def _nothing(scores: Tensor) -> Tensor:
    """0-d zero with a zero gradient, connected to the scores."""
    return (scores * 0.0).sum().abs()
