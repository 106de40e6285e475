"""``metricgrad report``: a finished study again, without its task."""

from __future__ import annotations

from typing import Annotated

import typer

from metricgrad.cli.console import print_study


def report(
    folder: Annotated[str, typer.Argument(help="What --out of `metricgrad compare` named.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")] = False,
) -> None:
    """Print a finished study's table, and write its report.html and report.md again."""
    from metricgrad.comparison.report.page import write_report

    print_study(write_report(folder).table, as_json=as_json)
