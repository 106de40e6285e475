"""Further workers on this machine: copies of this process, which train what it trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from metricgrad.errors import MetricgradError

_PATIENCE = 5.0
"""Seconds in which a worker that is told to end does."""


@contextmanager
def helped(work: Callable[[], object], workers: int) -> Iterator[None]:
    """Do ``work`` in so many processes beside this one, while the block does it here.

    They are forks, so tasks and losses need not be picklable. Whatever ends one of them, its work is left to the
    others; at the end of the block, and with this process, they end.

    Args:
        work: what each does, with one thread.
        workers: how many, 0 for none.

    Raises:
        MetricgradError: where a process cannot be copied.
    """
    if not workers:
        yield
        return
    if "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_initialized():
        why = "its GPU is in use" if torch.cuda.is_initialized() else "this system cannot"
        raise MetricgradError(
            f"jobs is {workers + 1}, and this process cannot be copied: {why}; make the same call several times, with "
            "the same out: they share the work"
        )
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_quietly, args=(work, os.getpid())) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_PATIENCE)
            if process.is_alive():  # a trainer has a handler of its own, which a signal at its end is lost in
                process.kill()
                process.join()


def _quietly(work: Callable[[], object], parent: int) -> None:
    """The main process tells what there is to tell, also of what goes wrong: it meets the same."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    work()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
