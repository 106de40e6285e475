"""The section on studies of a loss against itself, from results/aa_studies.json."""

from __future__ import annotations

from typing import Any

from report_text import table

LIMIT = 0.05
RULE = "the rule: one-sided test at 5 %"


def section(result: dict[str, Any]) -> str:
    """How often what is the same is called better or recommended, and how often what is better is."""
    tables = result["tables"]
    rules = list(next(iter(next(iter(tables.values()))["same"].values()))["two"])
    same = [
        [name, seeds, percent(one["verdict"]), *(f"{percent(one['two'][r])}, {percent(one['five'][r])}" for r in rules)]
        for name, found in tables.items()
        for seeds, one in found["same"].items()
    ]
    better = [
        [name, seeds, f"+{float(gain) * found['deviation']:.3f}", *(percent(one[r]) for r in rules)]
        for name, found in tables.items()
        for seeds, gains in found["better"].items()
        for gain, one in gains.items()
    ]
    return "\n\n".join(
        [
            f"Cross-entropy on three of the development tables, {result['names']} trainings on each of "
            f"{result['seeds']} splits that differ in their start and the order of their batches alone. A study draws "
            f"some of the splits and gives the trainings other names; {result['count']} studies for each row. Two "
            "names are judged for the verdict, and two and five for which rung is recommended, by `compare` "
            "and by other rules. Nothing is better here, so that every number is a rate of error.",
            table(["task", "seeds", 'verdict "better"', *(f"{rule} (two, five names)" for rule in rules)], same),
            "The same with a constant added to the second of two names: how often each rule takes what is better. The "
            "constants are a half, one and two deviations of a difference of two trainings.",
            table(["task", "seeds", "better by", *rules], better),
        ]
    )


def bars(result: dict[str, Any]) -> list[list[str]]:
    """For the top of the report."""
    studies = [one for found in result["tables"].values() for one in found["same"].values()]
    rates = {
        'is called "better"': max(one["verdict"] for one in studies),
        "is recommended above itself": max(one["two"][RULE] for one in studies),
        "is recommended above itself on some rung of four": max(one["five"][RULE] for one in studies),
    }
    count = result["count"]
    return [
        [f"a loss under another name {what} in at most 5 % of {count} studies, at worst in {percent(rate)}",
         "yes" if rate <= LIMIT else "**no**"]
        for what, rate in rates.items()
    ]  # fmt: skip


def percent(share: float) -> str:
    """With one digit where it is needed."""
    return f"{100 * share:g} %"
