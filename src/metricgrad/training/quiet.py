"""Keep Lightning from talking about its own internals, and from ending the user's process."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator

_NOT_FOR_THE_READER = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r".*does not have many workers",
    r".*smaller than the logging interval",
    r".*Experiment logs directory .* exists and is not empty",
    r".*GPU available but not used",
    r".*callbacks used to create the checkpoint need to be provided",  # of version 0.1, which had one for patience
    r".*Checkpoint directory .* exists and is not empty",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence notices nobody using ``fit`` can act on; warnings of the user's own code still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _NOT_FOR_THE_READER:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning would exit the process and ignore every later Ctrl-C."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        if main:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
