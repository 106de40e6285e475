"""Runs kept by name, some at a time; and the choice of a rate from a grid that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from common import Store

GRID = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class OutOfTimeError(Exception):
    """What is asked for is not there, and no run is begun any more."""


class Runs:
    """Calls of one function of a module, each made once.

    Args:
        store: of finished runs.
        run: the function; its arguments and what it returns can be pickled.
        processes: runs at a time.
        limit: seconds after which no calls are begun.
    """

    def __init__(self, store: Store, run: Callable[..., Any], processes: int, limit: float = float("inf")) -> None:
        self.store, self.run, self.end = store, run, time.monotonic() + limit
        self.pool = ProcessPoolExecutor(processes, get_context("spawn"))

    def get(self, asked: Mapping[str, Sequence[Any]]) -> list[Any]:
        """What the function returns for each of the arguments; their names are the keys of the store.

        Raises:
            OutOfTimeError: where there is no time to ask.
        """
        todo = {key: given for key, given in asked.items() if self.store.get(key) is None}
        if todo and time.monotonic() > self.end:
            raise OutOfTimeError
        for key, call in {key: self.pool.submit(self.run, *given) for key, given in todo.items()}.items():
            self.store.add(key, call.result())
            print(key, flush=True)
        return [self.store.get(key) for key in asked]


def chosen(valid: Callable[[list[float]], list[float]], first: Sequence[float]) -> float:
    """The rate of :data:`GRID` that is best on validation, higher being better.

    Args:
        valid: of several rates.
        first: neighbours in the grid; it goes on while the best is at an edge of what was tried.
    """
    tried: dict[float, float] = {}
    missing, best = list(first), first[0]
    while missing:
        tried |= dict(zip(missing, valid(missing), strict=True))
        best = max(tried, key=lambda rate: tried[rate])
        place = GRID.index(best)
        missing = [rate for rate in GRID[max(0, place - 1) : place + 2] if rate not in tried]
    return best
