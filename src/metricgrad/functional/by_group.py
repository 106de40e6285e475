"""A function of lists of one length, for lists of any lengths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def by_group(of_lists: Callable[..., Tensor], groups: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """One value of each group of rows, by one call for all groups of one size.

    Args:
        of_lists: takes ``(G, L, ...)`` tensors, one for each of ``rows``, and returns ``(G,)``.
        groups: ``(N,)`` integers.
        rows: ``(N, ...)`` tensors.

    Returns:
        ``(G,)`` the numbers there are in ``groups``, rising, and ``(G,)`` the values.

    Example:
        >>> by_group(lambda x: x.mean(1), torch.tensor([5, 2, 5]), torch.tensor([1.0, 7.0, 3.0]))
        (tensor([2, 5]), tensor([7., 2.]))
    """
    numbers, which, counts = groups.unique(return_inverse=True, return_counts=True)
    order, start = which.argsort(stable=True), counts.cumsum(0) - counts
    values, found = [], []
    for size in counts.unique().tolist():
        chosen = (counts == size).nonzero()[:, 0]
        lists = order[start[chosen, None] + torch.arange(size, device=order.device)]
        values.append(of_lists(*(side[lists] for side in rows)))
        found.append(chosen)
    return numbers, torch.cat(values)[torch.cat(found).argsort()]
