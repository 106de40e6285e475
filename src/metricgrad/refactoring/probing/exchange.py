"""Exchanges: entries, rows or lists of the same kind change places.

Which of them leave a metric as it is decides how many moves of UniLoss one call of the metric can stand for.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shuffled(values: Tensor, key: Tensor, generator: torch.Generator) -> Tensor:
    """Values along the first axis, permuted at random among those of equal key."""
    by_key = key.argsort(stable=True)
    at_random = torch.randperm(len(key), generator=generator)
    at_random = at_random[key[at_random].argsort(stable=True)]
    out = values.clone()
    out[by_key] = values[at_random]
    return out


def exchange_entries(scores: Tensor, key: Tensor, generator: torch.Generator) -> Tensor:
    """Entries of equal key, such as (target) or (target, column), change places."""
    return shuffled(scores.reshape(-1), key, generator).reshape(scores.shape)


def exchange_lists(scores: Tensor, targets: Tensor, lists: Tensor, generator: torch.Generator) -> Tensor:
    """Lists of the same targets, up to their order, change places; the scores follow the targets.

    Args:
        scores: any shape.
        targets: shaped like the scores.
        lists: list number of each entry, flat.
        generator: on the CPU.

    Returns:
        The scores themselves where no two lists have the same targets.
    """
    by_target = targets.reshape(-1).argsort(stable=True)
    by_target = by_target[lists[by_target].argsort(stable=True)]
    members = by_target.split(torch.bincount(lists).tolist())
    alike: dict[tuple[float, ...], list[int]] = {}
    for number, entries in enumerate(members):
        alike.setdefault(tuple(targets.reshape(-1)[entries].tolist()), []).append(number)
    flat = scores.reshape(-1)
    out = flat.clone()
    for numbers in alike.values():
        for place, source in zip(torch.randperm(len(numbers), generator=generator).tolist(), numbers, strict=True):
            out[members[numbers[place]]] = flat[members[source]]
    return out.reshape(scores.shape)
