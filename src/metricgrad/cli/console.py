"""Where results are printed, the table of a study, and warnings."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from metricgrad.comparison.table import Table

_WIDE = 160


def console() -> Console:
    """As wide as the terminal or as COLUMNS says; wide enough for whole names where neither is there."""
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=_WIDE)


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Inside, a warning says what is the matter, as an error does, and not in which line of whose file it was found."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"metricgrad: warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def print_study(table: Table, *, as_json: bool) -> None:
    """A study on stdout: its table, its notes and its files, or its JSON and nothing else."""
    if as_json:
        print(json.dumps(table.to_dict(), allow_nan=False))
        return
    screen = console()
    screen.print(table.rich(screen.width))
    screen.print(table.rungs(screen.width))
    screen.print(table.recommended(), highlight=False, markup=False)
    for note in table.notes:
        screen.print(f"note: {note}", highlight=False, markup=False)
    screen.print(f"report: {table.path}/report.html", highlight=False, markup=False, soft_wrap=True)
