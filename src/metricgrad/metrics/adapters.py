"""What is known of other libraries' metrics: how they read scores, in which order, and which way is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def describe(metric: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` known for a callable; empty for one nobody described."""
    return {}
