"""Markdown tables and numbers for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def number(value: float | None, style: str = ".4f") -> str:
    """A dash for None."""
    return "–" if value is None else format(value, style)


def estimate(value: dict[str, Any] | None, style: str = ".3f") -> str:
    """Mean and interval."""
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return number(value["mean"], style)
    return f"{value['mean']:{style}} ({value['low']:{style}} … {value['high']:{style}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def said(value: dict[str, Any]) -> str:
    """What an interval of a difference shows."""
    if value["low"] is None:
        return "one seed: nothing shown"
    return "better" if value["low"] > 0 else "worse" if value["high"] < 0 else "no difference shown"


def short(metric: str) -> str:
    """A metric's spec for a table head."""
    return metric.replace("average_precision", "AP").replace("recall_at_precision:precision=", "recall@precision ")
