"""Batches of a chosen make-up: a few classes with as many items of each, or the classes of all the data in every batch.

Each batch is a function of a seed and its number, so that every rank of a data-parallel training can draw all of it and
take its part: :class:`RankBatches`.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from metricgrad.checks import check_numbers, check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_whole

Targets = Tensor | np.ndarray | Sequence[int]


class SeededBatches(Sampler[list[int]], abc.ABC):
    """Abstract: a batch sampler whose every batch follows from the seed and its number; it can be resumed.

    Args:
        count: batches in an epoch.
        seed: decides every draw, whatever the global random state.

    Raises:
        MetricgradError: for what are no whole numbers, and a count below 1.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = _whole("batches", count, 1), _whole("seed", seed)
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
        self.next = _whole("epoch", epoch, 0) * self.count

    def state_dict(self) -> dict[str, Any]:
        """The number of the next batch."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a saved place, also in the middle of an epoch.

        Raises:
            MetricgradError: for what is no state of a sampler.
        """
        if "next" not in state:
            held = ", ".join(map(repr, state)) or "nothing"
            raise MetricgradError(
                f"state holds {held}, and not 'next', the number of the next batch; pass what state_dict() gave"
            )
        self.next = _whole("next", state["next"], 0)

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
        targets: ``(N,)`` integer class numbers, a tensor, an array or a list.
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
        self, targets: Targets, *, classes: int, per_class: int, batches: int | None = None, seed: int = 0
    ) -> None:
        # fewer than 2, and a batch has no pairs of both sorts
        classes, per_class = _whole("classes", classes, 2), _whole("per_class", per_class, 2)
        self.members = [rows for rows in _rows_of_classes(targets) if len(rows) > 1]
        if len(self.members) < 2:
            raise MetricgradError(
                f"targets hold {len(self.members)} classes of two items or more; class-balanced batches need two"
            )
        self.classes, self.per_class = min(classes, len(self.members)), per_class
        enough = -(-len(targets) // (self.classes * per_class))
        super().__init__(enough if batches is None else batches, seed)

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
        targets: ``(N,)`` integer class numbers, a tensor, an array or a list.
        size: items of a batch at most, but for ``least``; all batches have as many, to one: 103 items with a size of 32
            make four of 26 or 25.
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

    def __init__(self, targets: Targets, *, size: int, least: int = 0, seed: int = 0) -> None:
        self.members, self.least = _rows_of_classes(targets), _whole("least", least, 0)
        super().__init__(-(-len(targets) // _whole("size", size, 1)), seed)
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
    around :class:`ClassBalanced` or :class:`Stratified`; Lightning's Trainer takes ``use_distributed_sampler=False``,
    and they are made in ``train_dataloader()``, when the process group is there.

    Args:
        batches: of all ranks together.
        rank: of this process; by default that of the default process group, as is the number of ranks.
        world_size: how many ranks there are.

    Raises:
        MetricgradError: where there is no process group to ask; for a rank that is none of so many; for a batch of
            fewer items than there are ranks.
    """

    def __init__(self, batches: SeededBatches, *, rank: int | None = None, world_size: int | None = None) -> None:
        if (rank is None or world_size is None) and not (dist.is_available() and dist.is_initialized()):
            raise MetricgradError(
                "rank and world_size are not given, and there is no process group yet; pass both, or make the batches "
                "once there is one: in Lightning in train_dataloader()"
            )
        self.batches = batches
        self.world_size = dist.get_world_size() if world_size is None else _whole("world_size", world_size, 1)
        self.rank = dist.get_rank() if rank is None else _whole("rank", rank, 0)
        if self.rank >= self.world_size:
            raise MetricgradError(
                f"rank is {self.rank} of {self.world_size} ranks; expected one from 0 to {self.world_size - 1}"
            )

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


def _whole(name: str, value: object, least: int | None = None) -> int:
    """A whole number, NumPy's as well.

    Raises:
        MetricgradError: naming the option.
    """
    return checked_whole(name, int(value) if isinstance(value, np.integer) else value, least=least)


def _rows_of_classes(targets: Targets) -> list[Tensor]:
    """For each class that is there, the numbers of its rows.

    Raises:
        MetricgradError: for what are no integer classes.
    """
    check_numbers("targets", targets)
    if not isinstance(targets, Tensor):
        array = np.asarray(targets)
        targets = torch.as_tensor(array.astype(np.int64 if array.dtype.kind in "biu" else np.float64))
    check_tensor("targets", targets)
    if targets.ndim != 1 or targets.is_floating_point() or not len(targets):
        raise MetricgradError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; balanced batches need integer classes (N,)"
        )
    return [(targets == c).nonzero().squeeze(1) for c in targets.unique()]
