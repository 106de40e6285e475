"""What docs/papers.md says of each system's numbers, from the JSON the benchmarks wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report_paper import TITLES
from report_text import estimate, number, short, table

_KEPT = ("cross-entropy", "UniLoss, the paper's", "UniLoss, the released code's, sign error",
         "UniLoss, the released code's, true gradient", "UniLoss")  # fmt: skip


def uniloss(found: dict[str, Any]) -> str:
    """Each task's main rows."""
    result = found["paper_tables"]
    rows = [
        [f"{TITLES[task].split(',')[0]}, {short(result['described'][task]['metric'])}",
         *(estimate(named.get(row), ".4f") for row in _KEPT)]
        for task, named in result["tables"].items()
    ]  # fmt: skip
    return table(["", *_KEPT], rows)


def reloss(found: dict[str, Any]) -> str:
    """Fits with the switch on and off: how they rank, and what a model trained on them reaches."""
    fits = found["reloss_pitfalls"]["fits"]
    rows = [
        [name, estimate(fit["narrow"], ".2f"), estimate(fit["usual"]), estimate(fit["tuned"])]
        for name, fit in ((name, fits[name]) for name in ("paper=True", "default", "cross-entropy"))
    ]
    head = ["digits", "rank correlation, blocks of a training's end", "accuracy, SGD at 0.1", "accuracy, tuned AdamW"]
    return table(head, rows)


def adalfl(found: dict[str, Any]) -> str:
    """Test error after the paper's number of steps."""
    rows = [
        [model, row, number(values["rate"], "g"), estimate(values["test"], ".2f")]
        for model, named in found["adalfl_long"]["tables"].items()
        for row, values in named.items()
    ]
    return table(["MNIST", "trained on", "rate", "test error, %"], rows)


def ala(found: dict[str, Any]) -> str:
    """The paper's matrix and settings, that matrix left alone, and the default on the same data."""
    parts = found["ala"]["parts"]
    literal, ours = parts["literal"]["rows"], parts["pair flips, digits"]["rows"]
    rows = [
        ["paper=True, 3 children", estimate(literal["literal"]["mean"])],
        ["the same matrix, nothing moved", estimate(literal["literal, nothing moved"]["mean"])],
        ["the default, 10 children", estimate(ours["ala"]["mean"])],
        ["cross-entropy, 10 networks", estimate(ours["cross_entropy"]["mean"])],
    ]
    return table(["digits, 40 % of labels moved to the next class", "test accuracy of the mean child"], rows)


SECTIONS = {
    "uniloss": (uniloss, "paper_tables"),
    "reloss": (reloss, "reloss_pitfalls"),
    "adalfl": (adalfl, "adalfl_long"),
    "ala": (ala, "ala"),
}


def fill(page: Path, found: dict[str, Any]) -> None:
    """Write each section between its marks."""
    text = page.read_text()
    for name, (write, source) in SECTIONS.items():
        inside = write(found) if source in found else f"Not run yet: `python benchmarks/{source}.py`."
        before, _, rest = text.partition(f"<!-- {name} -->")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}<!-- {name} -->\n\n{inside}\n\n<!-- /{name} -->{after}"
    page.write_text(text)
