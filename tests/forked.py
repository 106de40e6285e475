"""Calls in a process forked from this one, which has imported everything: what is killed need not start anew."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any


def forked(function: Callable[..., Any], *arguments: Any, **options: Any) -> BaseProcess:
    """A process that makes the call, as the library's own workers do."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, kwargs=options, daemon=True)
    process.start()
    return process
