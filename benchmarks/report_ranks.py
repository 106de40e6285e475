"""The sections of RESULTS.md on soft ranks, and on what losses of order cost."""

from __future__ import annotations

from typing import Any

from report_adalfl import held
from report_text import table


def soft_rank(result: dict[str, Any]) -> str:
    """Milliseconds beside torchsort and beside a loop, and memory."""
    names = {"ours": "ours", "torchsort": "torchsort", "torchsort_standardised": "torchsort, standardising included"}
    names = {key: title for key, title in names.items() if key in next(iter(result["steps"].values()))}
    steps = [
        [cell, *(f"{run[key]:.2f}" + (f" ({run['ours'] / run[key]:.2f})" if key != "ours" else "") for key in names)]
        for cell, run in result["steps"].items()
    ]
    blocks = [
        [name, f"{run['ours']:.2f}", f"{run['loop']:.2f} ({run['loop'] / run['ours']:.1f})"]
        for name, run in result["blocks"].items()
    ]
    memory = ", ".join(f"{megabytes:.1f} MB for {int(n):,}" for n, megabytes in result["megabytes"].items())
    return "\n\n".join([
        "Forward and backward of `mg.functional.soft_rank` in ms of processor time, medians that take turns in one "
        "process; in brackets ours over theirs. torchsort is compiled C++; ours is NumPy and standardises its input.",
        table(["scores at strength", *names.values()], steps),
        "The blocks alone, n = 16,384, beside pool-adjacent-violators over a Python list; in brackets theirs by ours.",
        table(["values", "ours", "loop"], blocks),
        f"NumPy's peak in a step: {memory} scores.",
    ])  # fmt: skip


def ranking_cost(result: dict[str, Any]) -> str:
    """Milliseconds of every loss by size, for each share of positives, and each bar."""
    cells: dict[str, dict[str, float]] = result["cells"]
    shares = list(dict.fromkeys(key.split("/")[1] for key in cells))
    sizes = list(dict.fromkeys(key.split("/")[0] for key in cells))
    names = list(dict.fromkeys(name for times in cells.values() for name in times))
    parts = [
        "Forward and backward in ms of processor time on one thread; all losses of a column take turns in one process, "
        "medians, and of three processes the medians of these. UniLoss is as it comes, its memory of 512 scores full. "
        "Ratios within a column say more than milliseconds. Not run: what holds all pairs, beyond 2^24 of them. "
        "LibAUC's losses come with `pip install --no-deps libauc`; where they are not, bars are of those that ran.",
    ]
    for share in shares:
        rows = [
            [name, *(f"{found:.2f}" if (found := cells[f"{n}/{share}"].get(name)) else "not run" for n in sizes)]
            for name in names
        ]
        parts += [f"{float(share):.0%} positives:", table(["loss", *(f"N = {int(n):,}" for n in sizes)], rows)]
    absent = f" Not installed where this ran: {', '.join(result['absent'])}." if result["absent"] else ""
    parts += [
        "![cost against N](results/ranking_cost.png)",
        f"Each bar takes the slowest of our four metrics, and where it names no share the worst of them.{absent}",
        held(result),
    ]
    return "\n\n".join(parts)


def lists_cost(result: dict[str, Any]) -> str:
    """Milliseconds of every loss by size, for each kind of lists, and each bar."""
    titles = {
        "labels": "Means over 20 labels, of which 20 % hold",
        "classes": "Ten classes: means over one against the rest, and the rank of the class in each row",
        "queries": "Rows of 16 items with grades from 0 to 3",
        "embeddings": "Embeddings of 64 numbers, eight rows of each class",
    }
    parts = [
        "Forward and backward in ms of processor time on one thread; all losses of a column take turns in one process, "
        "medians, and of three processes the medians of these. UniLoss is as it comes. N is the number of scores of a "
        "label, of rows, of items in all, or of embeddings.",
    ]
    for kind, title in titles.items():
        of_kind = {key.split("/")[1]: times for key, times in result["cells"].items() if key.startswith(f"{kind}/")}
        names = next(iter(of_kind.values()))
        rows = [[name, *(f"{times[name]:.2f}" for times in of_kind.values())] for name in names]
        parts += [f"{title}:", table(["loss", *(f"N = {int(n):,}" for n in of_kind)], rows)]
    return "\n\n".join([*parts, held(result)])
