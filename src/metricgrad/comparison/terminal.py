"""Tables for a terminal: no number is broken, and what there is no room for is left out, the least asked for first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_FOLDED = 20
"""Longer words are folded."""


class Column(NamedTuple):
    """One column; those with a ``spare`` may be left out, the lowest first."""

    name: str
    cells: list[str]
    of_words: bool = False
    spare: int = 0

    @property
    def least(self) -> int:
        """Characters of its longest word; an ellipsis stays with the number before it."""
        words = [word for text in (self.name, *self.cells) for word in text.replace(" …", "…").split()]
        return min(_FOLDED, max(len(word.replace("…", " …")) for word in words))

    @property
    def most(self) -> int:
        """Characters of its longest cell; a heading is broken between its words."""
        return max(self.least, *map(len, self.cells))


def fitted(title: str, columns: Sequence[Column], dim: Sequence[bool], width: int | None) -> RichTable:
    """A table no wider than ``width`` characters, where leaving out what may be left out is enough for that.

    Args:
        title: above it.
        columns: with a cell for each row.
        dim: of each row.
        width: of the terminal; None: everything.
    """
    from rich.table import Table as RichTable

    columns, left_out = list(columns), []
    for column in sorted((one for one in columns if one.spare), key=lambda one: one.spare):
        if width is None or _least(columns) <= width:
            break
        columns.remove(column)
        left_out.append(column.name)
    caption = f"no room for: {', '.join(left_out)}" if left_out else None
    shown = RichTable(title=title, title_justify="left", caption=caption, caption_justify="left")
    room = sum(one.most for one in columns) if width is None else max(0, width - _least(columns))
    widths = {}
    for column in sorted(columns, key=lambda one: one.of_words):  # intervals first
        more = min(room, max(0, column.most - column.least))
        room, widths[column.name] = room - more, column.least + more
    for column in columns:
        justify = "left" if column.of_words else "right"
        shown.add_column(column.name, justify=justify, width=widths[column.name], overflow="fold")
    for row, dimmed in enumerate(dim):
        shown.add_row(*(column.cells[row] for column in columns), style="dim" if dimmed else None)
    return shown


def _least(columns: Sequence[Column]) -> int:
    """How wide they are with their borders, each no wider than its longest word."""
    return sum(column.least + 3 for column in columns) + 1
