"""The section on ALA, from results/ala.json."""

from __future__ import annotations

from typing import Any

from report_text import estimate, table

TITLES = {
    "pair_flip": "Accuracy, 40 % of the training labels moved to the next class, 30 epochs",
    "pair_flip_long": "The same, 60 epochs",
    "symmetric": "Accuracy, 50 % of the training labels moved to any other class",
    "rare f1": "F1 at 5 % positives, each row at its best threshold on validation",
    "rare average_precision": "Average precision at 5 % positives",
}


def section(result: dict[str, Any]) -> str:
    """Tables, and in words where the policy beats the random walk and where it does not."""
    parts, out = result["parts"], []
    for name, title in TITLES.items():
        if name in parts:
            out += [f"### {title}", _main(parts[name]), _words(parts[name])]
    if "settings" in parts:
        rows = [[name, estimate(v["test"]), estimate(v["last"])] for name, v in parts["settings"].items()]
        out += ["### What was tried on pair flips (3 seeds)", table(["setting", "best epoch", "last epoch"], rows)]
    if "population" in parts:
        rows = [
            [name, estimate(v["best"]), estimate(v["mean"]), estimate(v["seconds"], ".1f")]
            for name, v in parts["population"].items()
        ]
        head = ["population, 20 epochs", "best child by validation", "mean child", "seconds"]
        out += ["### Populations on pair flips", table(head, rows)]
    if "cost" in parts:
        cost = parts["cost"]
        out.append(
            f"Looks and moves take {100 * cost['share']:.1f} % of the training time of the small network (median of "
            f"five runs); a step of the family costs {cost['microseconds over cross_entropy']:.0f} microseconds more "
            "than one of cross-entropy."
        )
    return "\n\n".join(out)


def _main(part: dict[str, Any]) -> str:
    rows = []
    for name, values in part["rows"].items():
        gap = part["ala against"].get(name)
        difference = plain = "–"
        if gap is not None:
            difference = f"{estimate(gap)}, {gap['verdict']}"
            plain = " … ".join(f"{end:.3f}" for end in gap["plain"])
        last = "–" if name == "tuned grid" else estimate(values["last"])
        rows.append([name, estimate(values["test"]), last, difference, plain])
    return table(["row", "best epoch", "last epoch", "ala minus it", "seeds as if independent"], rows)


def _words(part: dict[str, Any]) -> str:
    said = []
    for where, key in (("At the best epoch", "ala against"), ("At the last epoch", "ala against, last epoch")):
        for name, gap in part[key].items():
            if name.startswith("random_walk"):
                does = "beats" if gap["verdict"] == "better" else "is not shown to beat"
                said.append(f"{where} the policy {does} {name}: {estimate(gap)}.")
    return " ".join(said) + " The last epoch was looked at after the best one: take it as a second reading."
