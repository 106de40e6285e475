"""The settings that the paper published for its controller, in place of the defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

_PUBLISHED: dict[str, Any] = {
    "every": 200, "evaluations": 50, "warm_up": 0, "clamp": False, "scaled": False, "reward": "sign", "centred": False,
    "entropy": 0.0, "importance": False, "updates": 1,
}  # fmt: skip


def published(given: Mapping[str, Any], defaults: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The published settings, but for those that were given: that differ from the defaults."""
    found = {name: _PUBLISHED[name] if value == defaults[name].default else value for name, value in given.items()}
    return {**found, "evaluations": min(found["evaluations"], found["every"])}


def published_schedule(every: int | None = None) -> dict[str, Any]:
    """Those that a walk at random has too; no more evaluations than steps where ``every`` is given."""
    schedule = {name: _PUBLISHED[name] for name in ("every", "evaluations", "warm_up", "clamp")}
    return {**schedule, "evaluations": min(schedule["evaluations"], every or schedule["every"])}
