"""The options that say what is what in a table, shared by the commands that take a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    from metricgrad.tables.task import TableTask
    from metricgrad.tasks.task import Task

_PANEL = "Tables"

Target = Annotated[str | None, typer.Option(help="The column to predict.", rich_help_panel=_PANEL)]
Positive = Annotated[str | None, typer.Option(help="Of two classes, the one to look for.", rich_help_panel=_PANEL)]
Classes = Annotated[
    str | None, typer.Option(help="All classes from low to high, with commas between.", rich_help_panel=_PANEL)
]
Group = Annotated[
    str | None, typer.Option(help="A column whose rows stay together in one part.", rich_help_panel=_PANEL)
]
Weight = Annotated[
    str | None, typer.Option(help="A column of numbers from 0 up: how much each row counts.", rich_help_panel=_PANEL)
]
Split = Annotated[str | None, typer.Option(help="A column that says train, valid or test.", rich_help_panel=_PANEL)]
Time = Annotated[str | None, typer.Option(help="A column of times: the latest rows judge.", rich_help_panel=_PANEL)]
Drop = Annotated[str | None, typer.Option(help="Columns to leave out, with commas between.", rich_help_panel=_PANEL)]


def table_task(file: str, metric: str | None, **options: str | None) -> TableTask:
    """The task of a table, once what was understood of it is said on stderr.

    Args:
        file: the table.
        metric: what decides.
        options: of the command line, by name.

    Raises:
        MetricgradError: where the target or the metric is not said, or the table does not bear it.
    """
    from metricgrad.tables.reading import read_chunks
    from metricgrad.tables.task import task_of_table

    if options.get("target") is None:
        first = next(read_chunks(file, 1))
        raise MetricgradError(
            f"which column of {file} is predicted? Pass --target with one of {', '.join(map(str, first.columns))}"
        )
    if metric is None:
        raise MetricgradError(
            f"what decides on {file}? Pass --metric, such as --metric f1; `metricgrad metrics` lists them"
        )
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given |= {name: names(given[name]) for name in ("classes", "drop") if name in given}
    task = task_of_table(file, metric=metric, **given)
    for line in task.describe():
        print(line, file=sys.stderr)
    return task


def task_of(spec: str, metric: str | None, **options: str | None) -> Task:
    """The task of a table, where the spec ends as tables do, or else the one that it names.

    Raises:
        MetricgradError: where options of tables are given for another task.
    """
    from metricgrad.tables.reading import is_table
    from metricgrad.tasks.registry import get_task

    if is_table(spec):
        return table_task(spec, metric, **options)
    if given := next((name for name, value in options.items() if value is not None), None):
        raise MetricgradError(
            f"--{given} goes with a table, and {spec!r} ends in neither .csv nor .parquet; name a file that "
            "does, or leave it out"
        )
    return get_task(spec)


def names(text: str) -> list[str]:
    """Names at commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
