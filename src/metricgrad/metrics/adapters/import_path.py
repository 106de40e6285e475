"""From what a user wrote to the callable it names: ``pkg.mod:fn`` strings and partials; a file names no code."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.metrics.adapters.source_file import module_of_file
from metricgrad.metrics.spec import parse_spec


def find_callable(spec: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The callable of ``"pkg.mod:fn"`` or ``"path/to/file.py:fn"``, and its parameters: ``"...:fn:key=value,..."``.

    The module may lie in the directory one stands in, as with ``python -m``.

    Raises:
        MetricgradError: where it cannot be imported; any failure of the import is reported, since a torchvision that
            does not match torch makes ``import torchmetrics`` raise a RuntimeError.
    """
    module, _, rest = spec.partition(":")
    attribute, params = parse_spec(rest)
    try:
        found: Any = _import(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        hint = "Write it as package.module:function, importable from where you stand, or path/to/file.py:function"
        if module.partition(".")[0] == "torchmetrics":
            hint = "Install torchmetrics; if it is there, a torchvision that does not match torch breaks its import"
        if isinstance(error, AttributeError):
            close = did_you_mean(str(error.name), [one for one in dir(error.obj) if one[0] != "_"])
            hint = close.capitalize() if close.startswith("did") else hint
        raise MetricgradError(f"metric {spec!r}: {type(error).__name__}: {error}. {hint}") from error
    if not callable(found):
        raise MetricgradError(f"metric {spec!r} names no function, but of type {type(found).__name__}; name one")
    return found, params


def unwrap(metric: Callable[..., Any], fixed: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Take partials apart: the function itself, and its keyword arguments with the outermost winning."""
    while isinstance(metric, functools.partial):
        if metric.args:
            raise MetricgradError("a partial with positional arguments hides the scores; pass keyword arguments only")
        fixed = {**metric.keywords, **fixed}
        metric = metric.func
    return metric, fixed


def _import(module: str) -> Any:
    if module.endswith(".py"):
        return module_of_file(Path(module))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] or os.getcwd() in sys.path:
            raise
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(os.getcwd())
