"""The interface of every refactoring: e = g(h(f(scores))) with f differentiable, h binary, g the metric itself.

A refactoring knows nothing of the metric's values. It says which comparisons of scores the metric can depend on
(UniLoss, Eq. 5 to 9), and makes score sets on which the unmodified metric is then called, so that nobody has to write
g by hand. Scores and targets come as the metric gets them: :func:`metricgrad.metrics.decoding.canonical` rows for
built-in metrics, the person's own shapes for a callable.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.interpolation import power_loss
from metricgrad.functional.leak import LIMIT, leak, leaky_sigmoid, margins
from metricgrad.metrics.decoding import wide

#: Entries that stand for each other: all, those of one sample (one index of the first axis), of one column (one index
#: of the last axis), of one row (they differ in the last axis alone), or none.
Exchangeable = Literal["all", "column", "row", "sample", "none"]
Shapes = Literal["same", "classes", "either"]
_Choice = TypeVar("_Choice", bound=str)
EXCHANGEABLE: tuple[Exchangeable, ...] = get_args(Exchangeable)


@dataclass(frozen=True)
class Labels:
    """Predicted labels after each move, rows of equal target and prediction put together.

    Attributes:
        predicted: ``(1 + M, R)`` class numbers, before any move and after each.
        targets: ``(R,)``.
        weight: ``(R,)`` how many rows each stands for.
    """

    predicted: Tensor
    targets: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Rows:
    """Moves of which each changes one query's similarities alone, for metrics that are means over queries.

    Attributes:
        similar: ``(S N, n)`` similarities of every query, or what orders them, in each of S sets.
        relevant: ``(S N, n)`` booleans.
        row: ``(M,)`` the query that each move changes.
        column: ``(M,)`` the item that moves.
        value: ``(M,)`` its similarity after the move.
        sets: S.
    """

    similar: Tensor
    relevant: Tensor
    row: Tensor
    column: Tensor
    value: Tensor
    sets: int = 1

    def after(self) -> Tensor:
        """``(M, n)``: the query that each move changes, after the move."""
        return self.similar[self.row].scatter(1, self.column[:, None], self.value[:, None])


@dataclass(frozen=True)
class Words:
    """Moves of which each changes one word, for metrics that are functions of sums over sentences.

    Attributes:
        said: ``(N, T)`` words before any move; those below 0 match nothing.
        targets: ``(N, T)`` words, -1 for padding.
        row: ``(M,)`` the sentence that each move changes.
        place: ``(M,)`` the place in it.
        word: ``(M,)`` what is said there after the move.
    """

    said: Tensor
    targets: Tensor
    row: Tensor
    place: Tensor
    word: Tensor

    def after(self) -> Tensor:
        """``(M, T)``: the sentence that each move changes, after the move."""
        return self.said[self.row].scatter(1, self.place[:, None], self.word[:, None])


@dataclass(frozen=True)
class Moves:
    """Elementary changes of the decisions, for local interpolation.

    Attributes:
        stack: makes the ``(M, *scores.shape)`` score sets, one after each move.
        change: maps the M changes of the metric's value to the expected change, differentiable in the scores: 0-d, or
            ``(S,)`` from each set that the moves start from.
        counts: ``(S + M, P)`` for a binary ranking, where the moves start and what they are in the space of counts (see
            :class:`metricgrad.metrics.families.counts.Counts`), so that a metric that is a function of counts needs no
            sorting.
        negatives: how many negatives those counts are of.
        base: ``(S, *scores.shape)`` score sets that the moves start from; the current scores where it is None.
        origin: ``(M,)`` which of the S each move starts from; the first where it is None.
        ranks: whether score sets are what the metric reads of the scores, decoded already.
        labels: the same moves as labels, for a metric that can be called on them.
        entries: for moves of single entries, the flat index in ``base`` and the new value, ``(M,)`` each.
        rows: for moves of single similarities, the rows they change; ``stack`` is then not to be called.
        words: for moves of single words, what they change.
    """

    stack: Callable[[], Tensor]
    change: Callable[[Tensor], Tensor]
    counts: Tensor | None = None
    negatives: int = 0
    base: Tensor | None = None
    origin: Tensor | None = None
    ranks: bool = False
    labels: Callable[[], Labels] | None = None
    entries: Callable[[], tuple[Tensor, Tensor]] | None = None
    rows: Callable[[], Rows] | None = None
    words: Callable[[], Words] | None = None


def checked_choice(name: str, value: _Choice, choices: Sequence[_Choice]) -> _Choice:
    """The value, if it is one of the choices.

    Raises:
        MetricgradError: naming the option and the choices.
    """
    if value not in choices:
        raise MetricgradError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


_CALLED = {"comparisons", "scores_from", "ideal", "spread"}


def _checked(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method of a refactoring, of shapes that it reads."""
    place = list(inspect.signature(method).parameters).index("scores")

    @functools.wraps(method)
    def call(self: Refactoring, *args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(("scores", "targets"), args[place - 1 :], strict=False)) | kwargs
        self.check(given["scores"], given["targets"])
        return method(self, *args, **kwargs)

    return call


class Refactoring(abc.ABC):
    """Abstract: what a metric reads from the scores."""

    name: ClassVar[str]
    #: Axes of the scores and of the targets that it reads; empty where that is checked elsewhere.
    axes: ClassVar[tuple[tuple[int, int], ...]] = ()
    #: Instead, of any number of axes: whether scores and targets share their ``"same"`` shape, or scores have one more,
    #: last axis for the ``"classes"``, or ``"either"``.
    shapes: ClassVar[Shapes | None] = None
    #: The sharpest softness that is set by itself: an untrained network's small scores say little of what will come.
    sharpest: ClassVar[float] = 0.5
    #: Softness that is set by itself, in units of the mean absolute comparison.
    relative: ClassVar[float] = 1.0
    findings: str = "chosen by hand: nothing was probed"

    def __init_subclass__(cls, **options: Any) -> None:
        """What people call themselves checks shapes first, in every refactoring."""
        super().__init_subclass__(**options)
        for name in _CALLED & vars(cls).keys():
            setattr(cls, name, _checked(vars(cls)[name]))

    def report(self) -> str:
        """How this refactoring was found: what was described, or what was probed and what held."""
        return self.findings

    def draws_rows(self, scores: Tensor, budget: int) -> bool:
        """Whether its moves are drawn row by row, so that rows must come in an order that their content decides."""
        return True

    def check(self, scores: Tensor, targets: Tensor) -> None:
        """Raise a MetricgradError where scores and targets have not the shapes it reads."""
        fits, expected = True, ""
        if self.shapes == "same":
            fits, expected = scores.shape == targets.shape, "scores and targets of one shape"
        elif self.shapes == "classes":
            fits, expected = (
                scores.shape[:-1] == targets.shape,
                "scores and targets of which scores have one more, last axis for the classes",
            )
        elif self.shapes == "either":
            of_classes = scores.shape[:-1] == targets.shape and scores.shape[-1:] != (1,)
            fits = scores.shape == targets.shape or of_classes
            expected = "scores and targets of one shape, or scores with one more, last axis for several classes"
        elif self.axes:
            fits = (scores.ndim, targets.ndim) in self.axes
            expected = "scores and targets of " + " or ".join(f"{a} and {b} axes" for a, b in self.axes)
        if not fits:
            raise MetricgradError(
                f"refactoring {self.name!r} reads {expected}, got shapes {tuple(scores.shape)} and "
                f"{tuple(targets.shape)}; give it one score for each item as scores.squeeze(-1), leave refactoring= "
                "out, or choose one for these"
            )

    @abc.abstractmethod
    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` differences of scores, differentiable; above 0 the comparison is decided the right way."""

    def binaries(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` booleans: the comparisons decided the right way (h, Eq. 4)."""
        return self.comparisons(scores, targets, groups=groups) > 0

    @abc.abstractmethod
    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Scores shaped like ``scores`` that realise the binaries, or some near them, with a warning that says so."""

    @abc.abstractmethod
    def ideal(
        self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator, *, groups: Tensor | None = None
    ) -> Tensor:
        """``(count, *scores.shape)`` score sets with every comparison right, as different as possible."""

    def best(self, ideal: Tensor, targets: Tensor) -> Tensor:
        """The score set whose value none exceeds, shaped like ``ideal``, which it is where ties cannot be better."""
        return ideal

    def random(self, scores: Tensor, targets: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """``(count, *scores.shape)`` score sets drawn at random, blind to the targets."""
        return torch.randn((count, *scores.shape), generator=generator).to(scores)

    @abc.abstractmethod
    def perturbed(self, stack: Tensor, targets: Tensor, flips: int, generator: torch.Generator) -> Tensor:
        """``(count, *shape)``: each score set with ``flips`` randomly chosen decisions moved."""

    @abc.abstractmethod
    def moves(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        softness: Tensor,
        q: float,
        budget: int,
        share: float,
        generator: torch.Generator,
        groups: Tensor | None = None,
    ) -> Moves:
        """The elementary moves from the current scores.

        Args:
            scores: in a shape of :meth:`check`, with graph.
            targets: as the metric takes them.
            softness: 0-d, the temperature that divides comparisons.
            q: tail exponent in (0, 1]; see :func:`metricgrad.functional.interpolation.power_loss`.
            budget: how many moves the metric may be called on.
            share: the share of the comparisons looked at, those nearest to being violated first.
            generator: for the choice among more moves than the budget allows.
            groups: ``(N,)`` query numbers, for metrics within groups.
        """

    def squared_distances(
        self, scores: Tensor, targets: Tensor, anchors: Tensor, *, softness: Tensor, groups: Tensor | None = None
    ) -> Tensor:
        """``(T,)`` squared Euclidean distances of the relaxed binaries from those of each anchor (Eq. 9 and 10).

        Costs O(T l) time and memory for l comparisons; refactorings over pairs override it.
        """
        soft = leaky_sigmoid(margins(self.comparisons(scores, targets, groups=groups), softness))
        bits = torch.stack([self.binaries(anchor, targets, groups=groups) for anchor in anchors]).to(soft)
        return (soft - bits).square().sum(-1)

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """0-d: mean absolute comparison, the scale that softness is measured against."""
        return self.comparisons(wide(scores.detach()), targets, groups=groups).abs().mean()


def samples_of(shape: torch.Size, device: torch.device) -> Tensor:
    """The index on the first axis of each entry, flat."""
    return torch.arange(shape.numel(), device=device) // max(1, shape[1:].numel())


def choose(mass: Tensor, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose at most ``budget`` strata by systematic sampling in proportion to their mass.

    Args:
        mass: ``(S,)`` non-negative.
        budget: at least 1.
        generator: a CPU generator.

    Returns:
        Indices ``(K,)`` and importance weights ``(K,)`` that keep weighted sums unbiased; all strata of positive
        mass, with weight 1, where they fit the budget.
    """
    mass = mass.detach()
    index = (mass > 0).nonzero().squeeze(-1)
    if len(index) <= budget:
        return index, torch.ones_like(mass[index])
    share = mass[index] / mass[index].sum()
    points = (torch.arange(budget) + torch.rand(1, generator=generator)).to(share) / budget
    drawn = torch.searchsorted(share.cumsum(0), points).clamp(max=len(index) - 1)
    unique, counts = drawn.unique(return_counts=True)
    return index[unique], counts.to(share) / (budget * share[unique])


def expected_change(odds: Tensor, best: Tensor, span: Tensor, q: float) -> Tensor:
    """Sum over units (entries, rows) of the change their soft decision is expected to make.

    What is surely wrong keeps a gradient: see :mod:`metricgrad.functional.leak`.

    Args:
        odds: ``(U,)`` the logit of the unit's quality, its expected value between its worst (0) and its best decision
            (1).
        best: ``(U,)`` change of the metric at the unit's best decision.
        span: ``(U,)`` the difference between the best and the worst decision.
        q: tail exponent; at 1 this is the exact expectation, to first order over units.
    """
    return (best - span * (power_loss(odds.sigmoid(), q) - leak(odds))).sum()


def log_shares(scores: Tensor, softness: Tensor) -> Tensor:
    """Log-softmax of scores divided by the softness along the last axis, finite for finite scores of any size."""
    return margins(scores - scores.detach().amax(-1, keepdim=True), softness).log_softmax(-1)


def quality_odds(log_share: Tensor, worth: Tensor) -> Tensor:
    """The logit of the expected worth of a unit that decides among several, exact where its probabilities saturate.

    Args:
        log_share: ``(U, C)`` log-probabilities of its decisions, finite.
        worth: ``(U, C)`` what each is worth, from 0, for at least one of them, to 1, for at least one.
    """
    for_it, against = (log_share + worth.log()).logsumexp(-1), (log_share + (1 - worth).log()).logsumexp(-1)
    return for_it - against


def worths(change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(U, C)`` changes of the metric as worths from 0 to 1, ``(U,)`` the best change and ``(U,)`` best minus worst;
    a unit whose decisions are all alike has a worth of one half.
    """
    worst, best = change.amin(-1), change.amax(-1)
    span = best - worst
    worth = (change - worst[..., None]) / span.clamp(min=torch.finfo(span.dtype).tiny)[..., None]
    return torch.where(span[..., None] > 0, worth, 0.5), best, span


def bounded(scores: Tensor) -> Tensor:
    """Detached scores that leave room above and below the largest and the smallest."""
    return scores.detach().clamp(-LIMIT, LIMIT)


def higher(values: Tensor) -> Tensor:
    """Larger values: by one, or by as much as floats of that size can tell apart."""
    return values + (1e-6 * values.abs()).clamp(min=1.0)


def most_likely(mass: Tensor, share: float) -> Tensor:
    """The ``(K,)`` mass of that share of the entries which have most of it; 0 for the others."""
    return mass if share >= 1 else mass * (mass >= mass.quantile(1 - share))


def first_of_each(key: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct keys; return each entry's number and the first entry of each number."""
    _, group = key.unique(return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(key), device=key.device)
    first.scatter_reduce_(0, group, torch.arange(len(key), device=key.device), "amin")
    return group, first
