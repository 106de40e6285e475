"""A limit on the time that one call of a callable that is not ours may take."""

from __future__ import annotations

import contextvars
import ctypes
import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

from metricgrad.errors import FailedRunError

T = TypeVar("T")

_AGAIN = 0.5


class MetricFailedError(FailedRunError):
    """A callable that is not ours raised, took too long, or has no value; other runs may go well."""


class _ExpiredError(BaseException):
    """Raised inside a call that takes too long; no Exception, so that code which goes on after any of those stops."""


class Limit:
    """The limit of the calls in one block.

    Attributes:
        seconds: of each call.
        expired: whether one took longer: every later call in the block then fails at once, so that code which carries
            on after a failed call does not wait again.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.expired = seconds, False

    def error(self) -> MetricFailedError:
        """What is raised."""
        return MetricFailedError(f"a call took longer than {self.seconds:g} s")


_CURRENT: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[Limit | None]:
    """Each call of a callable that is not ours may take so long in this block; None is no limit."""
    limit = None if seconds is None else Limit(seconds)
    token = _CURRENT.set(limit)
    try:
        yield limit
    finally:
        _CURRENT.reset(token)


def within_limit(call: Callable[[], T]) -> T:
    """Call, and give up after the limit of the block one is in.

    In the main thread a timer's signal interrupts the call: a loop in Python, a sleep, a wait for a lock, a child or
    the network. Elsewhere, and where the system has no such signal, the call runs in a thread of its own that is left
    behind. Neither can end a call that stays in compiled code and holds the interpreter's lock; it is stopped when it
    comes back.

    Raises:
        MetricFailedError: where it takes too long.
    """
    limit = _CURRENT.get()
    if limit is None:
        return call()
    if limit.expired:
        raise limit.error()
    by_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    return _by_signal(call, limit) if by_signal else _by_thread(call, limit)


def _by_signal(call: Callable[[], T], limit: Limit) -> T:
    waiting = True

    def ring(number: int, frame: types.FrameType | None) -> None:
        if waiting:
            raise _ExpiredError

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, limit.seconds, _AGAIN)  # again where a bare except goes on
    try:
        try:
            return call()
        finally:
            waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _ExpiredError:
        limit.expired = True
        raise limit.error() from None
    finally:
        waiting = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _by_thread(call: Callable[[], T], limit: Limit) -> T:
    found: list[Any] = []
    grad, context = torch.is_grad_enabled(), contextvars.copy_context()

    def work() -> None:
        try:
            with torch.set_grad_enabled(grad):
                found.append((True, context.run(call)))
        except BaseException as error:
            found.append((False, error))

    thread = threading.Thread(target=work, daemon=True, name="metric")
    thread.start()
    thread.join(limit.seconds)
    if not found:
        limit.expired = True
        if thread.ident is not None:  # ends a loop in Python, so that it does not go on for ever in the background
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_ExpiredError))
        raise limit.error()
    well, value = found[0]
    if not well:
        raise value
    return value
