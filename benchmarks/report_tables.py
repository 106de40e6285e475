"""The sections of the report on the development tables, and on how much memory answers for a table take."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from report_text import estimate, number, table

BASELINE = "cross_entropy"
ALWAYS = {BASELINE: "cross-entropy", "uniloss": "UniLoss", "lightgbm": "LightGBM"}
REGRET = (
    "Regret: how far the mean test value of what a rule chooses lies below the best of all losses and of the ladder, "
    "with its decision or without, chosen in hindsight."
)
DEVELOPED = "Losses and decisions were developed on these tables, so they show no more than that nothing is lost here."
FRESH = "Nobody had seen a result on these tables before; losses, decisions and rules are as the table above has them."
AFTERWARDS = (
    "That a decision is taken where every seed took one was made a rule after this table, where the rule without it "
    "missed one task by 0.178 (mean regret 0.0130); so the last row is no test of it."
)


def tables_suite(result: dict[str, Any]) -> str:
    """The tables on which losses and decisions were developed, and what the ladder makes of them."""
    return f"{_studies(result, DEVELOPED, [AFTERWARDS])}\n\n{_ladder(result['studies'])}"


def _ladder(studies: dict[str, Any]) -> str:
    """What ``losses="auto"`` makes of the tasks it was run on."""
    climbed = {name: study for name, study in studies.items() if "auto" in study}
    return (
        f'`losses="auto"` on the same runs, with those it adds, on the {len(climbed)} tasks it was run on. '
        f"{_climbs(climbed)}\n\nRegret on these:\n\n{regret(climbed)}"
    )


def ladder(result: dict[str, Any]) -> str:
    """What it makes of the tasks without trees."""
    return (
        f'`losses="auto"` on tasks of where_it_pays.py, {result["trials"]} trials of each loss, '
        f"{result['seeds']} draws. " + _climbs({study["about"]: study for study in result["studies"].values()})
    )


def _climbs(studies: dict[str, Any]) -> str:
    """A line a task: what is recommended, and how far it is from cross-entropy with its decision."""
    rows, shown = [], {"above": 0, "below": 0}
    for name, study in studies.items():
        auto = study["auto"]
        gap = auto["difference"]
        shown["above"] += gap["low"] > 0
        shown["below"] += gap["high"] < 0
        rows.append([
            name, auto["loss"], auto["decision"], number(auto["test"]["mean"], ".3f"), estimate(gap, "+.3f"),
        ])  # fmt: skip
    return (
        "Its test value beside that of cross-entropy with its decision, seed by seed (corrected): shown above it on "
        f"{shown['above']}, shown below it on {shown['below']}.\n\n"
        + table(["task", "loss recommended", "decision", "test", "minus cross-entropy + decision"], rows)
    )


def fresh_tables(result: dict[str, Any]) -> str:
    """The tables of which nobody had seen a result."""
    return _studies(result, FRESH, [])


def _studies(result: dict[str, Any], about: str, after: list[str]) -> str:
    """One line a task and loss: with the decision and without, and how far it is from the best standard loss."""
    rows = []
    for name, study in result["studies"].items():
        for row in study["summary"]:
            gap = {"mean": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
            baseline = row["verdict"] == "baseline"
            rows.append([
                name if row is study["summary"][0] else "",
                f"{row['loss']}{' (control)' if row['role'] == 'control' else ''}",
                number(row["mean_undecided"], ".3f"), number(row["mean"], ".3f"),
                "" if baseline else estimate(gap, "+.3f"), row["verdict"],
                number(study["seconds"].get(row["loss"]), ".1f"),
            ])  # fmt: skip
    return (
        f"{len(result['studies'])} tasks of benchmarks/tasks/tables, {result['trials']} trials of each loss, "
        f"{result['seeds']} draws of the split, small networks. {about}\n\n"
        + table(
            ["task", "loss", "plain reading", "with its decision", "difference, decided (corrected)", "verdict",
             "seconds a run"], rows,
        )
        + f"\n\n{' '.join([REGRET, *after])}\n\n{regret(result['studies'])}"
    )  # fmt: skip


def regret(studies: dict[str, Any]) -> str:
    """How far each rule of choice is on average below what turned out best, on all studies that have its loss."""
    gaps: dict[str, list[float]] = {}
    everywhere = all("auto" in study for study in studies.values())
    for study in studies.values():
        rows = {row["loss"]: row for row in study["summary"] if row["role"] != "control"}
        climbed = [study["auto"]["test"]["mean"]] if everywhere else []
        best = max(*climbed, *(row[reading] for row in rows.values() for reading in ("mean", "mean_undecided")))
        gaps.setdefault("always cross-entropy, plain reading", []).append(best - rows[BASELINE]["mean_undecided"])
        for loss, name in ALWAYS.items():
            if loss in rows:
                gaps.setdefault(f"always {name} with its decision", []).append(best - rows[loss]["mean"])
        loss, decision = (study["recommendation"][key] for key in ("loss", "decision"))
        chosen = rows[loss]["mean_undecided" if decision == "none" else "mean"]
        gaps.setdefault("what is recommended", []).append(best - chosen)
        for value in climbed:
            gaps.setdefault('what `losses="auto"` recommends', []).append(best - value)
    lines = [[rule, number(sum(each) / len(each), ".4f"), number(max(each), ".3f")] for rule, each in gaps.items()]
    return table(["rule", "mean regret", "worst task"], lines)


def base_share(result: dict[str, Any]) -> str:
    """What UniLoss gains at the end by how much of the standard loss is left there."""
    optimisers = list(next(iter(result["gains"].values())))
    shares = list(next(iter(next(iter(result["gains"].values())).values())))
    rows = [
        [name if place == 0 else "", optimiser, *(estimate(found[optimiser][share], "+.4f") for share in shares)]
        for name, found in result["gains"].items()
        for place, optimiser in enumerate(optimisers)
    ]
    for title, of_all in (("mean", fmean), ("least", min)):
        rows += [
            [title if place == 0 else "", optimiser, *(
                number(of_all(found[optimiser][share]["mean"] for found in result["gains"].values()), "+.4f")
                for share in shares
            )]
            for place, optimiser in enumerate(optimisers)
        ]  # fmt: skip
    return (
        f"Validation metric of the last {result['last']} epochs, read plainly, minus cross-entropy's with the same "
        "optimiser. The default leaves 0.3, which was chosen by this table.\n\n"
        + table(["task", "optimiser", *(f"{share} of the base stays" for share in shares)], rows)
    )


def predict_memory(result: dict[str, Any]) -> str:
    """A line a model and kind of file, peak memory by the number of rows."""
    counts = sorted({cell["rows"] for cell in result["cells"]})
    cells: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for cell in result["cells"]:
        cells.setdefault((cell["model"], cell["file"]), {})[cell["rows"]] = cell
    rows = [
        [
            model, file, *(number(max(of[count]["MiB"]), ".0f") for count in counts),
            number(max(of[counts[-1]]["seconds"]), ".0f"),
        ]
        for (model, file), of in cells.items()
    ]  # fmt: skip
    return (
        "Peak resident MiB of `metricgrad predict MODEL FILE --out FILE`, a process of its own, on tables of eight "
        "numbers and two categories. Answers are written for 50,000 rows at a time. The "
        "machine was shared, so that the seconds are upper bounds.\n\n"
        + table(["model", "file", *(f"{count:,} rows" for count in counts), f"seconds for {counts[-1]:,}"], rows)
    )
