"""Strata: decisions that stand for each other, so that one move serves them all, and the choice among too many."""

from __future__ import annotations

import torch
from torch import Tensor


def samples_of(shape: torch.Size, device: torch.device) -> Tensor:
    """The index on the first axis of each entry, flat."""
    return torch.arange(shape.numel(), device=device) // max(1, shape[1:].numel())


def first_of_each(key: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct keys; return each entry's number and the first entry of each number."""
    _, group = key.unique(return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(key), device=key.device)
    first.scatter_reduce_(0, group, torch.arange(len(key), device=key.device), "amin")
    return group, first


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


def most_likely(mass: Tensor, share: float) -> Tensor:
    """The ``(K,)`` mass of that share of the entries which have most of it; 0 for the others."""
    return mass if share >= 1 else mass * (mass >= mass.quantile(1 - share))
