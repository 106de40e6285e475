"""The section of RESULTS.md on soft ranks."""

from __future__ import annotations

from typing import Any

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
