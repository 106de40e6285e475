"""Batches of a few classes with as many items of each, for losses that compare items of a class with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from metricgrad.errors import MetricgradError


class ClassBalanced(Sampler[list[int]]):
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
        if targets.ndim != 1 or targets.is_floating_point():
            raise MetricgradError(
                f"targets are {targets.dtype} of shape {tuple(targets.shape)}; class-balanced batches need integer "
                "class numbers (N,)"
            )
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
        self.classes, self.per_class, self.seed = min(classes, len(self.members)), per_class, seed
        self.count = batches or -(-len(targets) // (self.classes * per_class))
        self.next = 0

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

    def _generator(self, stream: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(((self.seed * 2 + stream) * 1_000_003 + number) % (2**63 - 1))
