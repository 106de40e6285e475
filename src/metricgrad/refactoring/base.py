"""The interface of every refactoring: e = g(h(f(scores))) with f differentiable, h binary, g the metric itself.

A refactoring knows nothing of the metric's values. It says which comparisons of scores the metric can depend on
(UniLoss, Eq. 5 to 9), and makes score sets on which the unmodified metric is then called, so that nobody has to write
g by hand. Scores and targets come as the metric gets them: :func:`metricgrad.metrics.decoding.canonical` rows for
built-in metrics, the user's own shapes for a callable.
"""

from __future__ import annotations

import abc
import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar, get_args

import torch
from torch import Tensor

from metricgrad.abstract import Abstract
from metricgrad.errors import MetricgradError
from metricgrad.functional.leak import leaky_sigmoid, margins
from metricgrad.metrics.context import PARTS
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.moves import MoveRequest, Moves

#: Entries that stand for each other: all, those of one sample (one index of the first axis), of one column (one index
#: of the last axis), of one row (they differ in the last axis alone), of one group of the batch, or none.
Exchangeable = Literal["all", "column", "row", "sample", "group", "none"]
Shapes = Literal["same", "classes", "either"]
_Choice = TypeVar("_Choice", bound=str)
EXCHANGEABLE: tuple[Exchangeable, ...] = get_args(Exchangeable)


def checked_choice(name: str, value: _Choice, choices: Sequence[_Choice]) -> _Choice:
    """The value, if it is one of the choices.

    Raises:
        MetricgradError: naming the option and the choices.
    """
    if value not in choices:
        raise MetricgradError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


_CALLED = {"comparisons", "scores_from", "score_sets", "ideal", "spread"}


def _checked(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method of a refactoring, of shapes that it reads."""
    place = list(inspect.signature(method).parameters).index("scores")

    @functools.wraps(method)
    def call(self: Refactoring, *args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(("scores", "targets"), args[place - 1 :], strict=False)) | kwargs
        self.check(given["scores"], given["targets"])
        return method(self, *args, **kwargs)

    return call


class Refactoring(Abstract):
    """Abstract: what a metric reads from the scores."""

    name: ClassVar[str]
    #: Axes of the scores and of the targets that it reads; empty where that is checked elsewhere.
    axes: ClassVar[tuple[tuple[int, int], ...]] = ()
    #: Instead, of any number of axes: whether scores and targets share their ``"same"`` shape, or scores have one more,
    #: last axis for the ``"classes"``, or ``"either"``.
    shapes: ClassVar[Shapes | None] = None
    #: The sharpest softness that is set by itself: an untrained network's small scores say little of what will come,
    #: and gradients are divided by it: at 0.05 a network of 784-500-300 units diverged at a rate of 0.1.
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

    def check_batch(self, batch: Batch) -> None:
        """Refuse batches that a refactoring chosen by hand does not read."""
        if PARTS in batch.context:
            raise MetricgradError(
                "mask leaves single entries of (N, C) targets out, which takes apart the columns or rows that a "
                "refactoring= of your own reads; mask whole rows, or leave refactoring= out"
            )
        self.check(batch.scores, batch.targets)
        read = {getattr(self, name, "all") for name in ("exchangeable", "within")} & {"row", "column"}
        if batch.frame is not None and batch.scores.ndim == 1 and read:
            parts = " and ".join(f"{part}s" for part in sorted(read))
            raise MetricgradError(
                f"refactoring {self.name!r} is of {parts}, which a mask over "
                "single entries takes apart; pass exchangeable='none' and within='sample' or 'all', or no mask"
            )

    @abc.abstractmethod
    def comparisons(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` differences of scores, differentiable; above 0 the comparison is decided the right way."""

    def binaries(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` booleans: the comparisons decided the right way (h, Eq. 4)."""
        return self.comparisons(scores, targets, groups=groups) > 0

    def binaries_of(self, stack: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(T, l)`` booleans: :meth:`binaries` of each of ``(T, *scores.shape)`` score sets."""
        return torch.stack([self.binaries(scores, targets, groups=groups) for scores in stack])

    def owners(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(l,)`` numbers from 0: whose each comparison is, a row's or a positive's; one owner has them all here."""
        return torch.zeros_like(self.comparisons(scores.detach(), targets, groups=groups), dtype=torch.long)

    @abc.abstractmethod
    def scores_from(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """Scores shaped like ``scores`` that realise the binaries, or some near them, with a warning that says so."""

    def score_sets(self, binaries: Tensor, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """``(T, *scores.shape)``: :meth:`scores_from` for each of ``(T, l)`` binaries, without its warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.stack([self.scores_from(row, scores, targets, groups=groups) for row in binaries])

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
    def moves(self, request: MoveRequest) -> Moves:
        """The elementary moves from the current scores."""

    def extremes(self, metric: Metric, batch: Batch, generator: torch.Generator) -> Tensor:
        """``(3,)`` values of the metric: of the scores, of ideal scores and of those turned round."""
        (ideal,) = self.ideal(batch.scores, batch.targets, 1, generator, groups=batch.groups)
        return batch.values(metric, torch.stack([batch.scores, self.best(ideal, batch.targets), -ideal]))

    def squared_distances(
        self, scores: Tensor, targets: Tensor, anchors: Tensor, *, softness: Tensor, groups: Tensor | None = None
    ) -> Tensor:
        """``(T,)`` squared Euclidean distances of the relaxed binaries from those of each anchor (Eq. 9 and 10).

        Costs O(T l) time and memory for l comparisons; refactorings over pairs override it.
        """
        soft = leaky_sigmoid(margins(self.comparisons(scores, targets, groups=groups), softness))
        bits = self.binaries_of(anchors, targets, groups=groups).to(soft)
        return (soft - bits).square().sum(-1)

    def spread(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> Tensor:
        """0-d: mean absolute comparison, the scale that softness is measured against."""
        return self.comparisons(wide(scores.detach()), targets, groups=groups).abs().mean()
