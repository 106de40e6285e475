"""The section of RESULTS.md on translation."""

from __future__ import annotations

from typing import Any

from report_text import table


def translation(result: dict[str, Any]) -> str:
    """BLEU of every loss, over cross-entropy seed by seed, and what ReLoss's fit was worth before training."""

    def shown(found: dict[str, Any] | None, sign: str = "") -> str:
        return (
            "" if found is None else f"{found['mean']:{sign}.2f} [{found['low']:{sign}.2f}, {found['high']:{sign}.2f}]"
        )

    rows = [
        [name, f"{row['lr']:g}", shown(row["bleu"]), shown(row["over_standard"], "+"), f"{row['seconds']:.0f}"]
        for name, row in result["rows"].items()
    ]
    ranks = result["reloss_ranks"]
    ours, usual = (sum(ranks[key]) / len(ranks[key]) for key in ("correlation", "standard"))
    scratch = max(result["from_scratch_valid_by_rate"])
    return "\n\n".join([
        f"Interface strings of up to nine words from English to Romanian, {result['epochs']} epochs of a "
        f"non-autoregressive Transformer, sacrebleu of detokenised text on test, {result['paired_seeds']} paired draws.",
        table(["loss", "lr", "BLEU", "over token cross-entropy", "seconds"], rows),
        f"Before training, ReLoss ranked blocks kept apart as BLEU does with {ours:.3f}, cross-entropy with "
        f"{usual:.3f}. UniLoss(bleu) without a warm-up reached {scratch:.2f} on validation at its best rate.",
    ])  # fmt: skip
