"""A confusion table for people: the names of the classes, and the mistakes that weigh most where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_ROWS = 12
WORST = 15


class Cell(NamedTuple):
    """Items, or their weight, of one true class that were said to be another; ``share`` of all of the true one."""

    items: float
    share: float
    right: bool


@dataclass(frozen=True)
class Confusion:
    """A table of up to twelve classes as ``rows``, of more the ``worst`` mistakes as (true, said, items)."""

    names: list[str]
    rows: list[tuple[str, list[Cell]]]
    worst: list[tuple[str, str, float]]


def confusion_of(counts: Sequence[Sequence[float]], classes: Sequence[str]) -> Confusion:
    """The table of these counts.

    Args:
        counts: rows are true classes, columns what was said; items, or sums of their weights.
        classes: their names; their numbers where there are none.

    Example:
        >>> confusion_of([[8, 2], [0, 5]], ["no", "yes"]).rows[0]
        ('no', [Cell(items=8, share=0.8, right=True), Cell(items=2, share=0.2, right=False)])
    """
    names = list(classes) if len(classes) == len(counts) else [str(number) for number in range(len(counts))]
    if len(names) <= MOST_ROWS:
        rows = [
            (names[i], [Cell(count, count / (sum(row) or 1), i == j) for j, count in enumerate(row)])
            for i, row in enumerate(counts)
        ]
        return Confusion(names, rows, [])
    mistakes = [(count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j and count]
    mistakes.sort(key=lambda one: (-one[0], one[1], one[2]))
    return Confusion(names, [], [(names[i], names[j], count) for count, i, j in mistakes[:WORST]])
