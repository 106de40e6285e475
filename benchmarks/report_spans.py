"""The section of the report on answer spans."""

from __future__ import annotations

from typing import Any

from report_text import estimate, number, said, table


def spans(result: dict[str, Any]) -> str:
    """F1 of tokens and exact match of every loss, and ours against the best of cross-entropy's two rows."""
    rows = [
        [loss, number(row["lr"], "g"), estimate(row["f1"]), estimate(row["exact"]), number(row["seconds"], ".0f")]
        for loss, row in result["rows"].items()
    ]
    pairs = "; ".join(
        f"{ours} minus {other} {estimate(found['f1'], '+.3f')}, {said(found['f1'])}"
        for ours, others in result["against"].items()
        for other, found in others.items()
        if other.startswith("cross-entropy")
    )
    return "\n\n".join([
        "Types, defaults and meanings of parameters, marked in scikit-learn's docstrings: 1,000 questions to train "
        "on, 2,000 of other modules to test on; a small reader. Each loss at the best of four rates on one draw that "
        "is for tuning alone, the epoch chosen on validation. Smoothing is one setting, not a search. Seconds count "
        "ReLoss's recording and fit.",
        table(["loss", "rate", "test F1", "test exact match", "seconds"], rows),
        f"Paired, corrected after Nadeau and Bengio, as draws share modules: {pairs}.",
    ])  # fmt: skip
