"""Batches of a chosen make-up: a few classes with as many items of each, or the classes of all the data in every batch.

Each batch is a function of a seed and its number, so that every rank of a data-parallel training can draw all of it and
take its part: :class:`RankBatches`.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_whole


class SeededBatches(Sampler[list[int]], abc.ABC):
    """Abstract: a batch sampler whose every batch follows from the seed and its number; it can be resumed.

    Args:
        count: batches in an epoch.
        seed: decides every draw, whatever the global random state.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.next = 0

    @abc.abstractmethod
    def _batch(self, number: int) -> list[int]:
        """The rows of one batch, counted from the first epoch on."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        """The rest of the epoch that the next batch belongs to."""
        while True:
            batch = self._batch(self.next)
            self.next += 1
            yield batch
            if self.next % self.count == 0:
                return

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.next = epoch * self.count

    def state_dict(self) -> dict[str, Any]:
        """The number of the next batch."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a saved place, also in the middle of an epoch."""
        self.next = int(state["next"])

    def _generator(self, stream: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(((self.seed * 2 + stream) * 1_000_003 + number) % (2**63 - 1))


class ClassBalanced(SeededBatches):
    """A batch sampler: P classes drawn at random, K items of each, every batch a function of (seed, number) alone.

    Use it for embeddings, where a shuffled batch of many classes holds hardly two items of one class. Not for
    classification: it hides the class rates. Within an epoch the classes come in rounds, so that none is left out for
    long; the items of a class are drawn anew for each batch. A class of fewer than K items gives all it has, and one
    with a single item is never drawn. Pass it as ``DataLoader(..., batch_sampler=ClassBalanced(...))``, or let ``fit``
    make it with ``per_class=K``. It can be resumed: ``state_dict()`` holds the number of the next batch.

    Args:
        targets: ``(N,)`` integer class numbers.
        classes: P, at least 2; all classes where there are fewer.
        per_class: K, at least 2.
        batches: batches in an epoch; by default as many as hold N items.
        seed: decides every draw, whatever the global random state.

    Cost: O(N log N) once, O(P N / C) a batch.

    Raises:
        MetricgradError: for options out of range, or fewer than two classes of two items.

    Example:
        >>> sampler = ClassBalanced(torch.arange(12) % 3, classes=2, per_class=3)
        >>> [len(batch) for batch in sampler]
        [6, 6]
    """

    def __init__(
        self, targets: Tensor, *, classes: int, per_class: int, batches: int | None = None, seed: int = 0
    ) -> None:
        _check_classes(targets)
        for name, value in (("classes", classes), ("per_class", per_class)):
            if value < 2:
                raise MetricgradError(
                    f"{name} is {value!r}; expected 2 or more, so that a batch has pairs of both sorts"
                )
        if batches is not None and batches < 1:
            raise MetricgradError(f"batches is {batches!r}; expected 1 or more, or None")
        members = [(targets == c).nonzero().squeeze(1) for c in targets.unique()]
        self.members = [group for group in members if len(group) > 1]
        if len(self.members) < 2:
            raise MetricgradError(
                f"targets hold {len(self.members)} classes of two items or more; class-balanced batches need two"
            )
        self.classes, self.per_class = min(classes, len(self.members)), per_class
        super().__init__(batches or -(-len(targets) // (self.classes * per_class)), seed)

    def _batch(self, number: int) -> list[int]:
        generator = self._generator(1, number)
        picked = [self.members[c] for c in self._classes(number)]
        parts = [group[torch.randperm(len(group), generator=generator)[: self.per_class]] for group in picked]
        return torch.cat(parts).tolist()

    def _classes(self, number: int) -> list[int]:
        """P classes of a sequence of shuffled rounds, no class twice in a batch."""
        first, found = number * self.classes, []
        turn, skip = divmod(first, len(self.members))
        while len(found) < self.classes:
            order = torch.randperm(len(self.members), generator=self._generator(0, turn)).tolist()
            found += [c for c in order[skip:] if c not in found][: self.classes - len(found)]
            turn, skip = turn + 1, 0
        return found


class Stratified(SeededBatches):
    """A batch sampler: every batch has the classes of the data in their shares, and so many items of each at least.

    Use it for metrics of rare positives: a shuffled batch of 64 at 1 % positives holds none in half of all cases, and
    there a ranking or a recall has nothing to say. An epoch has each item once; with ``least`` the items of rare
    classes come again and again, so that the batches' rates are no longer those of the data, which a metric that reads
    the rate (average precision, F1) then sees too.

    Args:
        targets: ``(N,)`` integer class numbers.
        size: items of a batch, or one less; more with ``least``.
        least: items of each class in a batch, from 0 up; a class of fewer is there as a whole.
        seed: decides every draw, whatever the global random state.

    Cost: O(N log N) an epoch.

    Raises:
        MetricgradError: for targets that are no classes, and options out of range.

    Example:
        >>> targets = (torch.arange(1000) % 50 == 0).long()
        >>> [int(targets[batch].sum()) for batch in Stratified(targets, size=200)]
        [4, 4, 4, 4, 4]
        >>> min(int(targets[batch].sum()) for batch in Stratified(targets, size=20, least=2))
        2
    """

    def __init__(self, targets: Tensor, *, size: int, least: int = 0, seed: int = 0) -> None:
        _check_classes(targets)
        checked_whole("size", size, least=1)
        checked_whole("least", least, least=0)
        super().__init__(max(1, -(-len(targets) // size)), seed)
        self.members = [(targets == c).nonzero().squeeze(1) for c in targets.unique()]
        self.least = least
        self._epoch = -1
        self._batches: list[list[int]] = []

    def _batch(self, number: int) -> list[int]:
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._drawn(epoch)
        return self._batches[place]

    def _drawn(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch: each class in a new order, dealt out one by one from where the last one ended."""
        generator = self._generator(0, epoch)
        turns = itertools.cycle(torch.randperm(self.count, generator=generator).tolist())
        batches: list[list[int]] = [[] for _ in range(self.count)]
        for rows in self.members:
            order = rows[torch.randperm(len(rows), generator=generator)].tolist()
            each = min(self.least, len(order))
            if each * self.count < len(order):
                for row, turn in zip(order, turns, strict=False):
                    batches[turn].append(row)
            else:
                for first, batch in enumerate(batches):
                    batch += [order[(first * each + place) % len(order)] for place in range(each)]
        return batches


class RankBatches(Sampler[list[int]]):
    """A batch sampler for one rank of a data-parallel training: every W-th item of each batch.

    Every rank draws the same batches, so that together they have those that one process would, uneven ones too. Use it
    around :class:`ClassBalanced` or :class:`Stratified`; Lightning's Trainer takes ``use_distributed_sampler=False``.

    Args:
        batches: of all ranks together.
        rank: of this process; by default that of the default process group, as is the number of ranks.
        world_size: how many ranks there are.

    Raises:
        MetricgradError: where there is no process group to ask; for a batch of fewer items than there are ranks.
    """

    def __init__(self, batches: SeededBatches, *, rank: int | None = None, world_size: int | None = None) -> None:
        if (rank is None or world_size is None) and not (dist.is_available() and dist.is_initialized()):
            raise MetricgradError("rank and world_size are not given, and there is no process group; pass both")
        self.batches = batches
        self.rank = dist.get_rank() if rank is None else rank
        self.world_size = dist.get_world_size() if world_size is None else world_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's part of the rest of the epoch."""
        for batch in self.batches:
            if len(batch) < self.world_size:
                raise MetricgradError(
                    f"a batch has {len(batch)} items for {self.world_size} ranks; take batches of more items"
                )
            yield batch[self.rank :: self.world_size]

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The number of the next batch."""
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a saved place."""
        self.batches.load_state_dict(state)


def _check_classes(targets: Tensor) -> None:
    if targets.ndim != 1 or targets.is_floating_point() or not len(targets):
        raise MetricgradError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; balanced batches need integer classes (N,)"
        )
