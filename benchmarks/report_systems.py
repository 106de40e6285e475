"""The sections of the report on key points and retrieval."""

from __future__ import annotations

from typing import Any

from report_text import estimate, number, table


def retrieval(result: dict[str, Any]) -> str:
    """Recall of the nearest neighbour on classes nobody trained on."""
    parts = []
    for name, found in result["tasks"].items():
        rows = [
            [
                f"{loss}{' (control)' if row['role'] == 'control' else ''}",
                estimate(row["test"]),
                estimate(row["over_untrained"], "+.3f"),
                estimate(row["over_triplet"], "+.3f") if row["over_triplet"] else "",
            ]
            for loss, row in found["losses"].items()
        ]
        head = ["loss", f"test {result['metrics'][name]}", "over an untrained network", "over triplet"]
        seeds = found["untrained"]["n"]
        parts += [f"**{name}**, {found['trials']} trials, {seeds} seeds", table(head, rows)]
        lines = [
            f"- ALA begun as {start.replace('_', ' ')}: {estimate(gaps['over it'], '+.3f')} over it, "
            f"{estimate(gaps['over the random walk'], '+.3f')} over the random walk."
            for start, gaps in found["ala"].items()
        ]
        parts.append("\n".join(lines))
    parts.append(
        "Intervals of differences are corrected after Nadeau and Bengio, as draws share items. "
        "The width of the embeddings, the validation part and the softness tried first were chosen with test classes "
        "in view, on other draws; those of the digits share items with the draws here."
    )
    return "\n\n".join(parts)


def pose(result: dict[str, Any]) -> str:
    """PCK of the squared error over the Gaussian's width, of UniLoss and of ReLoss."""
    rows = [
        [
            loss,
            number(row["lr"], "g"),
            estimate(row["pck"]),
            estimate(row["last_fifth"], "+.3f"),
            estimate(result["uniloss_minus"][loss], "+.3f") if loss in result["uniloss_minus"] else "",
        ]
        for loss, row in result["rows"].items()
    ]
    return (
        f"Drawn stick figures of 24 pixels, a one-stack hourglass, 384 pictures, {result['epochs']} epochs, PCKh at "
        "half a head; each loss at its best rate on pictures of its own. A loss whose fourth column is near zero had "
        "time enough. Cross-entropy over pixels never calls the metric: it is the control. "
        "ReLoss is the one that comes with the package, fitted on such figures. UniLoss's paper mode is "
        "in no row: it keeps 49 anchors of all pixels of all maps.\n\n"
        + table(["loss", "rate", "test PCKh", "of it in the last fifth", "UniLoss minus it, paired"], rows)
    )
