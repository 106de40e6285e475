"""Which rows each child of a population sees in which step: a function of the seed, the child and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.training.balanced import ClassBalanced


class Orders:
    """Every child goes through the same rows in an order of its own, in batches of the size of the others'.

    Args:
        targets: ``(N, ...)``, of the training part.
        children: how many there are.
        batch_size: rows in a step of one child.
        per_class: for class-balanced batches, items of each class; None shuffles.
        seed: decides every order.

    Raises:
        MetricgradError: where class-balanced batches would differ in size.
    """

    def __init__(self, targets: Tensor, children: int, batch_size: int, per_class: int | None, seed: int) -> None:
        self.rows, self.children, self.batch_size, self.seed = len(targets), children, batch_size, seed
        self.balanced: list[ClassBalanced] = []
        if per_class is not None:
            classes = batch_size // per_class
            self.balanced = [
                ClassBalanced(targets.cpu(), classes=classes, per_class=per_class, seed=seed * 1_000 + child)
                for child in range(children)
            ]
            fewest = min(len(members) for members in self.balanced[0].members)
            if fewest < per_class:
                raise MetricgradError(
                    f"per_class is {per_class}, and train has a class of {fewest} items: the children's batches would "
                    f"differ in size; pass per_class={fewest}, or leave that class out"
                )

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.balanced[0]) if self.balanced else -(-self.rows // self.batch_size)

    def of(self, epoch: int) -> Iterator[Tensor]:
        """``(children, B)`` row numbers for each step of an epoch."""
        if self.balanced:
            for sampler in self.balanced:
                sampler.set_epoch(epoch)
            for batches in zip(*self.balanced, strict=True):
                yield torch.tensor(batches)
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        orders = [torch.randperm(self.rows, generator=generator) for _ in range(self.children)]
        yield from torch.stack(orders).split(self.batch_size, 1)
