"""A name with parameters in one string, as people write metrics and losses."""

from __future__ import annotations

import ast
from typing import Any

from metricgrad.errors import MetricgradError


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``"name:key=value,..."``; values are Python literals where they parse as such, strings otherwise."""
    name, _, tail = spec.partition(":")
    params: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise MetricgradError(f"{spec!r}: expected name:key=value,key=value; {part!r} has no '='")
        try:
            params[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            params[key.strip()] = value.strip()
    return name, params
