"""The options that say what is what in a table, shared by the commands that take a file."""

from __future__ import annotations

import shlex
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
    str | None,
    typer.Option(
        help="A column whose equal values stay together in one part, but where --split says otherwise.",
        rich_help_panel=_PANEL,
    ),
]
Weight = Annotated[
    str | None, typer.Option(help="A column of numbers from 0 up: how much each row counts.", rich_help_panel=_PANEL)
]
Split = Annotated[str | None, typer.Option(help="A column that says train, valid or test.", rich_help_panel=_PANEL)]
Time = Annotated[str | None, typer.Option(help="A column of times: the latest rows judge.", rich_help_panel=_PANEL)]
Drop = Annotated[str | None, typer.Option(help="Columns to leave out, with commas between.", rich_help_panel=_PANEL)]


def table_task(file: str, metric: str | None, **options: Any) -> TableTask:
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
    given |= {name: names(given[name]) for name in ("classes", "drop") if isinstance(given.get(name), str)}
    task = task_of_table(file, metric=metric, **given)
    for line in task.describe():
        print(line, file=sys.stderr)
    return task


def as_in(
    folder: str, file: str, metric: str | None, options: dict[str, str | None]
) -> tuple[str | None, dict[str, Any]]:
    """The metric and the options of a training, those that are not given as a comparison was told them, which is said.

    Args:
        folder: of the comparison.
        file: the table to train on.
        metric: what decides.
        options: of the command line, by name.

    Raises:
        MetricgradError: for a folder without a finished comparison, and a file that cannot be read.
    """
    from metricgrad.comparison.report.study_file import read_study
    from metricgrad.tables.asked import taken_over
    from metricgrad.tables.reading import read_chunks

    known = read_study(folder)[1]["options"]
    there = {str(name) for name in next(read_chunks(file, 1)).columns}
    taken = taken_over(known, {"metric": metric, **options}, there)
    if taken:
        texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in taken.items()}
        said = shlex.join(part for name, text in texts.items() for part in (f"--{name}", text))
        print(f"note: taken from {folder}: {said}", file=sys.stderr)
    return taken.pop("metric", metric), options | taken


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
