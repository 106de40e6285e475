"""How a batch is laid out, and all that follows from it: one small class for each layout.

What reads scores and targets asks ``metric.layout``, and never compares its name. What a layout means for losses stands
where losses are, as :func:`metricgrad.losses.standard_loss.standard_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.layouts.given import prepare_given
from metricgrad.metrics.layouts.heat_maps import peaks, prepare_maps
from metricgrad.metrics.layouts.rows import prepare
from metricgrad.metrics.layouts.sentences import prepare_sequences
from metricgrad.metrics.layouts.spans import best_spans, prepare_spans
from metricgrad.metrics.types import Apart

Read = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Layout:
    """Abstract: how scores and targets of a batch are laid out.

    Below, ``scores`` and ``targets`` are of one batch that :meth:`prepare` has checked, unless said otherwise.
    """

    name: ClassVar[str]
    #: Whether scores are of classes, of labels or of values, one target each: what a metric reads of them is probed.
    of_decisions: ClassVar[bool] = False
    #: Whether scores are embeddings, whose columns are no classes and whose rows are compared with all others.
    of_embeddings: ClassVar[bool] = False
    #: Whether targets may be classes, one for each item, which :class:`ClassTargets` reads.
    of_class_targets: ClassVar[bool] = True
    #: ``(stack, targets, context, *, takes, name)`` to what :meth:`prepare` returns.
    _prepare: ClassVar[Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]]]

    @property
    def of_rows(self) -> bool:
        """Whether a row is one item, with a target of its own."""
        return self.of_decisions or self.of_embeddings

    def __eq__(self, other: object) -> bool:
        # ``metric.layout`` was its name in version 0.1
        return self._called(other) if isinstance(other, str) else type(self) is type(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def _called(self, name: str) -> bool:
        return name == self.name

    def prepare(
        self,
        stack: Tensor,
        targets: Tensor,
        context: Mapping[str, Tensor | None],
        *,
        takes: frozenset[str],
        keeps_apart: Apart | None = None,
        name: str,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Score sets and targets in the shapes of this layout, checked, and the context as one value for each row.

        Args:
            stack: ``(S, ...)`` score sets.
            targets: of one batch, shared by all sets.
            context: what the caller gave; None counts as not given.
            takes: the names the metric takes; ``mask`` among them only where it wants the mask itself.
            keeps_apart: of rows: whether the metric takes rows or columns of ``(N, C)`` targets each by itself.
            name: the metric's, for messages.

        Raises:
            MetricgradError: for shapes, values or context that do not fit the layout.
        """
        return self._prepare(stack, targets, context, takes=takes, name=name)

    def check(self, scores: Tensor, targets: Tensor, metric: str) -> None:
        """Refuse a batch that no loss reads of this layout, which a metric might take all the same."""

    def elements(self, scores: Tensor, targets: Tensor) -> int:
        """How many numbers a metric keeps for each score set."""
        return scores.numel()

    def padding(self, scores: Tensor, targets: Tensor) -> Tensor | None:
        """A mask that leaves padding out, targets below 0 that are classes; None where there is none."""
        classes = scores.ndim == targets.ndim + 1
        return targets >= 0 if classes and bool((targets < 0).any()) else None

    def predicted(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What the scores say the targets are, in the dtype and shape of the targets; padding stays padding."""
        if scores.shape == targets.shape:
            return (scores > 0).to(targets.dtype)
        predicted = scores.argmax(-1)
        return torch.where(targets < 0, targets.to(predicted), predicted)

    def offset_shape(self, scores: Tensor, targets: Tensor) -> torch.Size:
        """Of an offset to all rows: what a model predicts too much of is a class or a label."""
        return scores.shape[1:]

    def with_label_noise(self, scores: Tensor, targets: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """Targets of which a share is replaced: labels by another one, values by those of other rows."""
        replaced = chosen(targets, rate, generator)
        if scores.shape == targets.shape:
            other = 1 - targets.long() if is_binary(targets) else targets[shuffled(targets, generator)]
        else:
            classes = scores.shape[-1]
            shift = torch.randint(1, max(2, classes), targets.shape, generator=generator)
            other = (targets.long() + shift.to(targets.device)) % classes
            replaced = replaced & (targets >= 0)
        return torch.where(replaced, other.to(targets.dtype), targets)

    def stored(self, scores: Tensor, targets: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """Raw pairs as they are kept for blocks: in the shapes of this layout.

        Args:
            scores: as the user gave them.
            targets: likewise.
            read: gives one batch in the shapes that a form reads.
        """
        stack, targets, _ = self.prepare(scores[None], targets, {}, takes=frozenset(), name="stored")
        return stack[0], targets

    def stored_groups(self, scores: Tensor, targets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, targets and which row belongs where, ``(N,)``, before :meth:`stored`."""
        return _grouped(ROWS, scores, targets, groups)

    def from_stored(self, read: Read) -> Read:
        """What a form reads of pairs that are :meth:`stored`."""
        return lambda scores, targets: (scores, targets)

    def rows_are_batches(self, targets: Tensor) -> bool:
        """Whether one row holds many decisions, or is read beside all others, so that few rows say as much as many."""
        return False


class Rows(Layout):
    """Rows, as in :mod:`metricgrad.metrics.metric`: ``(N,)`` or ``(N, C)`` scores, pooled from what has more axes."""

    name: ClassVar[str] = "rows"
    of_decisions: ClassVar[bool] = True

    def prepare(
        self,
        stack: Tensor,
        targets: Tensor,
        context: Mapping[str, Tensor | None],
        *,
        takes: frozenset[str],
        keeps_apart: Apart | None = None,
        name: str,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See :func:`metricgrad.metrics.layouts.rows.prepare`."""
        return prepare(stack, targets, context, takes=takes, keeps_apart=keeps_apart, name=name)

    def stored(self, scores: Tensor, targets: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """What the form reads: rows are rows to a metric and to a form."""
        return read(scores, targets)


class Given(Layout):
    """As the user passed it, for callables that nobody described: images stay images, sentences sentences."""

    name: ClassVar[str] = "given"
    of_decisions: ClassVar[bool] = True
    _prepare = staticmethod(prepare_given)

    def offset_shape(self, scores: Tensor, targets: Tensor) -> torch.Size:
        """Of a class, or of a label; of images with a score a pixel, all of it."""
        if scores.ndim > targets.ndim:
            return scores.shape[-1:]
        return torch.Size() if scores.ndim > 2 else scores.shape[1:]

    def stored(self, scores: Tensor, targets: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """As given; refuses what the form will not read of a block."""
        read(scores, targets)
        return super().stored(scores, targets, read)

    def stored_groups(self, scores: Tensor, targets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As given."""
        return _grouped(self, scores, targets, groups)

    def from_stored(self, read: Read) -> Read:
        """The form's reading: the metric has seen more axes than a form does."""
        return read

    def rows_are_batches(self, targets: Tensor) -> bool:
        """Of images and sentences."""
        return targets.ndim > 1


class _WholeTargets(Layout):
    """Abstract: each target is one thing of two numbers, a point or an answer."""

    of_class_targets: ClassVar[bool] = False

    def padding(self, scores: Tensor, targets: Tensor) -> Tensor | None:
        """None: what is absent was left out by a mask."""
        return None

    def with_label_noise(self, scores: Tensor, targets: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """Targets of which a share is replaced by those of other rows, each as a whole."""
        replaced = chosen(targets, rate, generator)
        return torch.where(replaced[:, :1], targets[shuffled(targets, generator)], targets)


class HeatMaps(_WholeTargets):
    """``(..., H, W)`` scores and ``(..., 2)`` points; see :mod:`metricgrad.metrics.layouts.heat_maps`."""

    name: ClassVar[str] = "maps"
    _prepare = staticmethod(prepare_maps)

    def predicted(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The highest pixel of each map."""
        return peaks(scores).to(targets)


class Sentences(Layout):
    """``(N, T, V)`` scores and ``(N, T)`` words, not pooled; see :mod:`metricgrad.metrics.layouts.sentences`."""

    name: ClassVar[str] = "sentences"
    _prepare = staticmethod(prepare_sequences)

    def elements(self, scores: Tensor, targets: Tensor) -> int:
        """Every run of words of one sentence: a score set changes one."""
        return targets.shape[1] ** 2


class Spans(_WholeTargets):
    """``(N, 2, L)`` start and end scores, ``(N, 2)`` first and last tokens; see
    :mod:`metricgrad.metrics.layouts.spans`."""

    name: ClassVar[str] = "spans"
    _prepare = staticmethod(prepare_spans)

    def predicted(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The best span of each passage."""
        return best_spans(scores)


ROWS, GIVEN, HEAT_MAPS, SENTENCES, SPANS = Rows(), Given(), HeatMaps(), Sentences(), Spans()


def _grouped(layout: Layout, scores: Tensor, targets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    takes = frozenset({"groups"})
    stack, targets, kept = layout.prepare(scores[None], targets, {"groups": groups}, takes=takes, name="stored")
    return stack[0], targets, kept["groups"]


def shuffled(targets: Tensor, generator: torch.Generator) -> Tensor:
    """The numbers of the rows in random order, on the device of the targets."""
    return torch.randperm(len(targets), generator=generator).to(targets.device)


def chosen(targets: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Booleans in the shape of the targets, of which a share is true."""
    return (torch.rand(targets.shape, generator=generator) < rate).to(targets.device)
