"""Which stored rows make a block: whole queries, or several rows of each of a few classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError


def rows_by(numbers: Tensor) -> list[Tensor]:
    """The rows of each number there is, on the CPU.

    Example:
        >>> rows_by(torch.tensor([7, 2, 7]))
        [tensor([1]), tensor([0, 2])]
    """
    _, which, counts = numbers.cpu().unique(return_inverse=True, return_counts=True)
    return list(which.argsort(stable=True).split(counts.tolist()))


def whole_groups(groups: Sequence[Tensor], size: int, generator: torch.Generator) -> Tensor:
    """Rows of whole groups in random order, as many as fit into ``size`` rows, and one at least."""
    picked: list[Tensor] = []
    taken = 0
    for group in torch.randperm(len(groups), generator=generator).tolist():
        if picked and taken + len(groups[group]) > size:
            break
        picked.append(groups[group])
        taken += len(groups[group])
    return torch.cat(picked)


def sample_per_class(classes: Sequence[Tensor], size: int, per_class: int, generator: torch.Generator) -> Tensor:
    """``size`` rows: ``per_class`` of each of a few classes; more of them where there are no more classes.

    Args:
        classes: the rows of each.
        size: rows of a block.
        per_class: 2 or more; a class of fewer gives all it has.
        generator: of the draw.

    Raises:
        MetricgradError: for fewer rows than ``size``.
    """
    picked: list[Tensor] = []
    spared: list[Tensor] = []
    taken = 0
    for one in torch.randperm(len(classes), generator=generator).tolist():
        order = classes[one][torch.randperm(len(classes[one]), generator=generator)]
        picked.append(order[:per_class])
        spared.append(order[per_class:])
        taken += len(picked[-1])
        if taken >= size:
            break
    rows = torch.cat(picked)
    if taken < size:
        others = torch.cat(spared)
        rows = torch.cat([rows, others[torch.randperm(len(others), generator=generator)]])
    if len(rows) < size:
        raise MetricgradError(f"{len(rows)} stored embeddings of classes with two or more are fewer than {size}")
    return rows[:size]
