"""One picture of a comparison: every seed's score, joined across losses, with means and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.table import Table
from metricgrad.comparison.verdicts import words
from metricgrad.writing import new_figure, write_figure

_CANDIDATE, _BASELINE, _CONTROL = "#1f5fa8", "#b3591c", "#9a9a9a"


def plot(table: Table, path: Path) -> Path:
    """Write the picture as PNG; it needs no display.

    A hollow diamond is the mean of the same runs without their decisions, where that is another. A loss whose rung of
    the ladder paid says so by its name, and the recommended one is set bold.
    """
    names = [row["loss"] for row in table.summary]
    figure = new_figure(8, 1.4 + 0.75 * len(names))
    axes = figure.subplots()
    by_seed: dict[int, dict[str, float]] = {}
    for run in table.runs:
        if run["test"] is not None:
            by_seed.setdefault(run["seed"], {})[run["loss"]] = run["test"]
    for scores in by_seed.values():
        places = [i for i, name in enumerate(names) if name in scores]
        axes.plot([scores[names[i]] for i in places], places, color="#d8d8d8", linewidth=0.8, zorder=1)
    for place, row in enumerate(table.summary):
        base = row["verdict"] == "baseline"
        color = _CONTROL if row["role"] == "control" else _BASELINE if base else _CANDIDATE
        dots = [scores[row["loss"]] for scores in by_seed.values() if row["loss"] in scores]
        axes.scatter(dots, [place] * len(dots), s=18, color=color, alpha=0.55, linewidths=0, zorder=2)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place + 0.2] * 2, color=color, linewidth=2.5, zorder=3)
        if row["mean_undecided"] is not None and row["mean_undecided"] != row["mean"]:
            axes.plot(row["mean_undecided"], place + 0.2, "D", color=color, mfc="white", markersize=6, zorder=4)
        if row["mean"] is not None:
            axes.plot(row["mean"], place + 0.2, "D", color=color, markersize=6, zorder=4)
            label = f"{six_digits(row['mean'])}  {words(row)}"
            axes.annotate(
                label, (row["mean"], place + 0.2), (0, -13), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_yticks(range(len(names)), labels=[_label(row, table) for row in table.summary])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == table.recommendation["loss"] else "normal")
    axes.set_ylim(len(names) - 0.4, -0.4)
    decided = any(row["decisions"].keys() - {"identity"} for row in table.summary)
    hollow = "; hollow: without decisions" if decided else ""
    axes.set_xlabel(f"test {table.metric} ({'higher' if table.higher_is_better else 'lower'} is better){hollow}")
    axes.set_title(f"{table.task}: one dot a seed, lines join a seed's scores; mean and 95 % interval", fontsize=10)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    return write_figure(figure, path)


def _label(row: dict[str, Any], table: Table) -> str:
    """A loss by its name, under it whether it is a control, and which of its rungs paid how much on validation."""
    paid = [r for r in table.ladder if r["loss"] == row["loss"] and r["taken"] and r["added"] is not None]
    gains = [f"{r['rung']} paid {six_digits(r['added'], '+')}" for r in paid]
    lines = ["(control)"] if row["role"] == "control" else gains
    best = ["recommended"] if row["loss"] == table.recommendation["loss"] else []
    return "\n".join([row["loss"], *lines, *best])
