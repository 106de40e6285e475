"""``metricgrad tasks``, ``metrics`` and ``losses``: what there is by name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from metricgrad.cli.console import console

Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")]


def tasks(as_json: Json = False) -> None:
    """List the built-in tasks."""
    from metricgrad.tasks.listing import LISTED

    _print(
        [
            {
                "task": name, "kind": task.kind, "metric": task.metric, "standard loss": task.standard,
                "epochs": task.epochs, "batch": task.batch_size, "what it is": task.summary,
            }
            for name, task in LISTED.items()
        ],
        as_json,
    )  # fmt: skip


def metrics(as_json: Json = False) -> None:
    """List the built-in metrics."""
    from metricgrad.metrics.built_in import table

    _print(
        [
            {
                "metric": name, "parameters": dict(entry.parameters),
                "better": "higher" if entry.higher_is_better else "lower", "what it is": entry.summary,
            }
            for name, entry in sorted(table().items())
        ],
        as_json,
    )  # fmt: skip


def losses(as_json: Json = False) -> None:
    """List the losses a comparison knows by name."""
    from metricgrad.systems.by_name import REGISTRY

    _print(
        [
            {
                "loss": name, "serves": sorted(entry.kinds), "tuned": list(entry.space),
                "role": "control" if entry.role == "control" else "standard" if entry.standard else "candidate",
                "what it is": entry.summary,
            }
            for name, entry in sorted(REGISTRY.items())
        ],
        as_json,
    )  # fmt: skip


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table with a column for each key, or a JSON list of the rows."""
    if as_json:
        print(json.dumps(rows, allow_nan=False))
        return
    shown = Table()
    for place, name in enumerate(rows[0]):
        shown.add_column(name, overflow="fold", no_wrap=place == 0)  # what is typed stands in one piece
    for row in rows:
        shown.add_row(*(escape(_cell(value)) for value in row.values()))
    console().print(shown)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner}" for key, inner in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
