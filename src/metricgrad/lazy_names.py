"""Names of a module that are imported when they are asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from metricgrad.did_you_mean import did_you_mean


def lazy_names(module: str, import_paths: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module.

    Args:
        module: its name.
        import_paths: each name to the module that defines it.

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
        if name in import_paths:
            return getattr(importlib.import_module(import_paths[name]), name)
        message = f"module {module!r} has no attribute {name!r}"
        if not name.startswith("_"):
            message += f": {did_you_mean(name, import_paths, {known.lower(): known for known in import_paths})}"
        raise AttributeError(message)

    return find, lambda: sorted(import_paths)
