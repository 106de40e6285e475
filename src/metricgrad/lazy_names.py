"""Names of a module that are imported when they are asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from metricgrad.checks import did_you_mean


def lazy_names(module: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module.

    Args:
        module: its name.
        homes: each name to the module that defines it.

    Example:
        >>> found, listed = lazy_names("shop", {"sqrt": "math"})
        >>> found("sqrt")(4.0), listed()
        (2.0, ['sqrt'])
        >>> found("sqr")
        Traceback (most recent call last):
        ...
        AttributeError: module 'shop' has no attribute 'sqr': did you mean sqrt?
    """

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        message = f"module {module!r} has no attribute {name!r}"
        if not name.startswith("_"):
            message += f": {did_you_mean(name, homes, {known.lower(): known for known in homes})}"
        raise AttributeError(message)

    return find, lambda: sorted(homes)
