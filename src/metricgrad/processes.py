"""Processes by the words in which files name them: a machine, and a number there."""

from __future__ import annotations

import os
import socket


def this_process() -> tuple[str, int]:
    """The machine and the number of the process that asks."""
    return socket.gethostname(), os.getpid()


def may_run(machine: str, number: int) -> bool:
    """Whether a process may still run: False only of one of this machine that is known to have ended."""
    if machine != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
