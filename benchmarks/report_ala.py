"""The section on ALA, from results/ala.json."""

from __future__ import annotations

from typing import Any

from report_text import estimate, table

STUDIES = (
    "pair flips, Fashion", "pair flips, digits", "symmetric noise, digits", "outliers", "digits-rare", "digits-rare F1",
    "digits-unequal",
)  # fmt: skip
OTHERS = {
    "copies": "The best child's weights copied over the worst's: with the policy, and with a random walk, which is "
    "population-based training (40 % pair flips, digits)",
    "reward": "What the policy is rewarded by (40 % pair flips, Fashion-MNIST)",
    "apart": "Ten children under one policy, and ten that each learn alone (40 % pair flips, digits)",
    "transfer": "A policy brought from six digits to Fashion-MNIST's ten classes (40 % pair flips)",
    "literal": "The paper's matrix and settings against the cures (40 % pair flips, digits, 3 children)",
}
WALK = "random_walk"


def section(result: dict[str, Any]) -> str:
    """Tables, and in words where the policy beats the random walk and where it does not."""
    parts = result["parts"]
    out = [_verdict(parts)]
    out += [f"### {parts[name]['about']}\n\n{_main(parts[name])}" for name in STUDIES if name in parts]
    out += [f"### {title}\n\n{_main(parts[name])}" for name, title in OTHERS.items() if name in parts]
    if "cost" in parts:
        cost = parts["cost"]
        form = cost["training over cross_entropy's"]
        out.append(
            f"At the defaults looks and moves take {100 * cost['validation and moves over training']:.1f} % of the "
            "training time of the small network in a plain loop; a training with ALA's form takes "
            f"{form:.1f} times as long as one with torch's cross-entropy, ten children "
            f"{cost['ten children over one']:.1f} times as long as one (medians of ratios within one run)."
        )
    return "\n\n".join(out)


def bars(result: dict[str, Any]) -> list[list[str]]:
    """For the top of the report."""
    rows = []
    for name in (name for name in STUDIES if name in result["parts"]):
        for kind in ("best", "mean"):
            gap = result["parts"][name]["ala against"][WALK][kind]
            holds = "yes" if gap["verdict"] == "better" else f"**no**: {gap['verdict']}"
            rows.append([f"ALA, {name}: the {kind} child of ten beats that of a random walk: {estimate(gap)}", holds])
    return rows


def _verdict(parts: dict[str, Any]) -> str:
    lines = []
    for name in STUDIES:
        if name in parts:
            for kind in ("best", "mean"):
                gap = parts[name]["ala against"][WALK][kind]
                does = {"better": "beats", "worse": "is worse than"}.get(gap["verdict"], "is not shown to beat")
                lines.append(f"- {name}, {kind} child: the policy {does} the random walk, {estimate(gap)}.")
    for name in OTHERS:
        for key in (key for key in parts.get(name, {}) if key.endswith(" against")):
            for other, gaps in parts[name][key].items():
                gap = gaps["mean"]
                does = {"better": "is better than", "worse": "is worse than"}.get(gap["verdict"], "is not told from")
                ours = key.removesuffix(" against")
                lines.append(f"- {name}, mean child: *{ours}* {does} *{other}*, {estimate(gap)}.")
    return "\n".join(lines)


def _main(part: dict[str, Any]) -> str:
    ours = [key.removesuffix(" against") for key in part if key.endswith(" against")]
    head = ["row", "best child", "mean child", "last epoch on validation"]
    head += [f"{row} minus it, {kind}" for row in ours for kind in ("best", "mean")]
    rows = []
    for name, values in part["rows"].items():
        cells = [name, *(estimate(values[kind]) for kind in ("best", "mean", "last on valid"))]
        for row in ours:
            gaps = part[f"{row} against"].get(name)
            for kind in ("best", "mean"):
                cells.append("–" if gaps is None else f"{estimate(gaps[kind])}, {gaps[kind]['verdict']}")
        rows.append(cells)
    return table(head, rows)
