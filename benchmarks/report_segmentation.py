"""The section of the report on segmentation."""

from __future__ import annotations

from typing import Any

from report_text import estimate, number, said, table

_COLUMNS = ("dice none", "dice threshold", "dice masks", "iou threshold", "iou masks")


def section(result: dict[str, Any]) -> str:
    """Dice and IoU of every loss under each decision, against tuned Dice + CE, and masks against one threshold."""
    rows = [
        [loss, number(row["rate"], "g"), *(estimate(row[column]) for column in _COLUMNS)]
        for loss, row in result["rows"].items()
    ]
    against = "; ".join(
        f"{loss} {estimate(found['dice masks'], '+.3f')}, {said(found['dice masks'])}"
        for loss, found in result["against"].items()
    )
    masks = "; ".join(
        f"{loss} {estimate(found['dice'], '+.3f')}, {said(found['dice'])}" for loss, found in result["masks"].items()
    )
    return "\n\n".join([
        "One or two ellipses among rectangles, at a contrast of each picture's own, 24 x 24 pixels: 240 pictures to "
        "train on, 120 to choose the epoch and the decision, 300 to test; a U-Net of 15,000 weights. "
        "Means over images. Each loss at the best of its settings on one draw for tuning alone.",
        table(["loss", "rate", *_COLUMNS], rows),
        f"Paired, test Dice under masks less that of Dice + CE: {against}.",
        f"Paired, test Dice under masks less that under one threshold: {masks}.",
    ])  # fmt: skip
