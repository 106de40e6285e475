"""Rows drawn as often as they weigh, so that whatever loss they are given to is a weighted one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class WeightedOrder(Sampler[int]):
    """N rows an epoch in random order; a row of weight 2 is there twice as often as one of weight 1.

    A row is drawn :math:`N w_i / \\sum_j w_j` times on average, and in each epoch that number rounded down or up
    (systematic sampling of a shuffled order), so that equal weights give each row once, as without any. Any loss of a
    batch then is one of the weighted rows: those that count pairs or ranks, those that are learned, and those that
    know no weights; and a large weight makes no large step, as it would as a factor of a row's loss.

    Args:
        weight: ``(N,)`` numbers from 0 up, not all 0.

    References:
        J. An, L. Ying and Y. Zhu, "Why resampling outperforms reweighting for correcting sampling bias with stochastic
        gradients", ICLR 2021. W. G. Madow, "On the theory of systematic sampling, II", Annals of Mathematical
        Statistics, 1949.
    """

    def __init__(self, weight: Tensor) -> None:
        expected = weight.double() / weight.double().mean()
        #: How often each row is drawn on average; rounded, so that equal weights are whole.
        self.expected = expected.round(decimals=9)

    def __len__(self) -> int:
        return len(self.expected)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        yield from self.rows(generator).tolist()

    def rows(self, generator: torch.Generator) -> Tensor:
        """``(N,)`` numbers of rows for one epoch."""
        order = torch.randperm(len(self), generator=generator)
        start = torch.rand((), generator=generator, dtype=torch.float64)
        ends = (self.expected[order].cumsum(0) + start).floor().long().clamp(max=len(self))
        ends[-1] = len(self)
        counts = ends.diff(prepend=ends.new_zeros(1))
        drawn = order.repeat_interleave(counts)
        return drawn if bool((counts == 1).all()) else drawn[torch.randperm(len(drawn), generator=generator)]


def as_often(weight: Tensor) -> Tensor:
    """``(N,)`` numbers of rows, each as often as it weighs; the same whenever it is asked for.

    Example:
        >>> as_often(torch.tensor([1.0, 0.0, 2.0])).tolist().count(2)
        2
    """
    return WeightedOrder(weight).rows(torch.Generator().manual_seed(0))
