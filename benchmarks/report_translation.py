"""The section of RESULTS.md on translation."""

from __future__ import annotations

from typing import Any

from report_text import estimate, table


def translation(result: dict[str, Any]) -> str:
    """BLEU of every loss, over cross-entropy seed by seed, and what ReLoss's fit was worth before training."""

    rows = [
        [
            name,
            f"{row['lr']:g}",
            estimate(row["bleu"], ".2f"),
            estimate(row["over_standard"], "+.2f") if row["over_standard"] else "",
            f"{row['seconds']:.0f}",
        ]
        for name, row in result["rows"].items()
    ]
    ranks = result["reloss_ranks"]
    ours, usual = (sum(ranks[key]) / len(ranks[key]) for key in ("correlation", "standard"))
    scratch = max(result["from_scratch_valid_by_rate"])
    return "\n\n".join([
        f"Interface strings of up to nine words from English to Romanian, {result['epochs']} epochs of a "
        "non-autoregressive Transformer, sacrebleu of detokenised text on test, "
        f"{result['paired_seeds']} paired draws.",
        table(["loss", "lr", "BLEU", "over token cross-entropy", "seconds"], rows),
        f"Before training, ReLoss ranked blocks held out as BLEU does with {ours:.3f}, cross-entropy with "
        f"{usual:.3f}. UniLoss(bleu) without a warm-up reached {scratch:.2f} on validation at its best rate.",
    ])  # fmt: skip
