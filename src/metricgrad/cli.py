"""The command line."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="Train on the metric you are judged by.")


@app.callback()
def _root() -> None:
    """Train on the metric you are judged by."""


@app.command()
def compare(
    task: str,
    metric: str = "macro_f1",
    losses: str = "cross_entropy,uniloss",
    trials: int = 6,
    seeds: int = 10,
    out: str = "runs/compare",
) -> None:
    """Compare losses on a task by the metric."""
    import numpy as np

    from metricgrad.compare.study import compare as run

    records = run(metric=metric, losses=losses.split(","), trials=trials, seeds=seeds)
    table = Table("loss", f"test {metric}", "seconds", title=task)
    for name in losses.split(","):
        tests = [r["test"] for r in records if r["loss"] == name]
        seconds = [r["seconds"] for r in records if r["loss"] == name]
        table.add_row(name, f"{np.mean(tests):.4f} ± {np.std(tests):.4f}", f"{np.mean(seconds):.1f}")
    Console().print(table)


def main() -> None:
    """Entry point."""
    app()
