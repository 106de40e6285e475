"""From runs to verdicts: each loss against the best standard one, in the metric's direction, with words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.records import Record
from metricgrad.comparison.statistics import (
    ALPHA,
    Estimate,
    corrected,
    equivalence,
    holm,
    paired,
    seeds_to_tell,
)
from metricgrad.comparison.verdicts import ENOUGH_SEEDS, counted, verdict

DIVERGED = "diverged: "
"""What a failed run's reason begins with where it was no metric's fault."""


def summarise(
    rows: Sequence[Candidate], runs: Sequence[Record], *, higher_is_better: bool, ratio: float, margin: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """One summary for each row, and notes in words.

    The baseline is the standard loss with the best mean validation value: the test part has no say in it. Every
    other row is paired with it seed by seed. The p-values of candidates are adjusted by Holm's procedure; a
    control's is its own; so are those of equivalence within the margin. Intervals and tests carry Nadeau and Bengio's
    correction.

    Args:
        rows: the losses.
        runs: one record for each loss and seed; ``test`` is None where a run diverged.
        higher_is_better: the metric's direction.
        ratio: n_test / n_train where seeds redraw the split, else 0.
        margin: a difference below it is none that matters, in the metric's units.
    """
    tests = {row.name: _by_seed(runs, row.name, "test") for row in rows}
    valids = {row.name: _by_seed(runs, row.name, "valid") for row in rows}
    sign = 1 if higher_is_better else -1
    baseline = max(
        (row.name for row in rows if row.standard),
        key=lambda name: (None not in valids[name].values(), sign * _mean(valids[name])),
    )
    against = {row.name: _difference(tests[row.name], tests[baseline], ratio) for row in rows}
    tested = [row.name for row in rows if row.role == "candidate" and row.name != baseline]
    same = {name: equivalence(difference, margin) for name, difference in against.items()}
    adjusted = dict(zip(tested, holm([against[name].p for name in tested]), strict=True))
    same |= dict(zip(tested, holm([same[name] for name in tested]), strict=True))
    table = []
    for row in rows:
        scores = [v for v in tests[row.name].values() if v is not None]
        own, difference = corrected(scores, ratio), against[row.name]
        undecided = _by_seed(runs, row.name, "test_undecided").values()
        plain = corrected([v for v in undecided if v is not None], ratio)
        p = adjusted.get(row.name, difference.p)
        failures = [run for run in runs if run["loss"] == row.name and run["test"] is None]
        failed = len(failures)
        p_equivalent, more = same[row.name], None
        if row.name == baseline:
            said, difference, p, p_equivalent = "baseline", Estimate(0.0, 0.0, 0.0, math.nan), math.nan, math.nan
        elif failed:
            how = "diverged" if all(map(diverged, failures)) else "failed"
            said = f"{how} in {failed} of {failed + len(scores)} seeds"
        else:
            said = verdict(difference, higher_is_better=higher_is_better, p=p, p_equivalent=p_equivalent)
            if said == "undecided":
                more = seeds_to_tell(difference, margin, ratio, tests=len(tested) if row.name in tested else 1)
        table.append(
            {
                "loss": row.name,
                "role": row.role,
                "mean": own.mean,
                "mean_undecided": plain.mean,
                "low_undecided": plain.low,
                "high_undecided": plain.high,
                "decisions": _decisions(runs, row.name),
                "low": own.low,
                "high": own.high,
                "difference": difference.mean,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "p": p,
                "p_unadjusted": difference.p if row.name != baseline else math.nan,
                "p_equivalent": p_equivalent,
                "verdict": said,
                "more_seeds": more,
                "valid": _mean(valids[row.name]),
                "seconds": _mean(_by_seed(runs, row.name, "seconds")),
            }
        )
    failed = [note for row in rows if (note := said_to_fail(row.name, "seed", "test", runs))]
    return [_plain(row) for row in table], [*failed, *_notes(rows, table, tests, sign, ratio)]


def diverged(run: Record) -> bool:
    """Whether a run that failed diverged; one of an earlier version did, where it does not say."""
    return run.get("failed", DIVERGED).startswith(DIVERGED)


def said_to_fail(loss: str, numbered: str, value: str, runs: Sequence[Record]) -> str | None:
    """In words, how many runs of a loss failed and why the first of them did; None where none did.

    Args:
        loss: its name.
        numbered: what numbers the runs: ``"trial"`` or ``"seed"``.
        value: what a run that failed lacks.
        runs: records, also of other losses.
    """
    own = [run for run in runs if run["loss"] == loss]
    failures = [run for run in own if run[value] is None]
    if not failures:
        return None
    first = failures[0]
    return (
        f"{loss} failed in {len(failures)} of {len(own)} {numbered}s; in {numbered} {first[numbered]}: "
        f"{first.get('failed', DIVERGED.rstrip(': '))}"
    )


def _notes(
    rows: Sequence[Candidate],
    table: list[dict[str, Any]],
    tests: dict[str, dict[int, float | None]],
    sign: int,
    ratio: float,
) -> list[str]:
    notes = []
    controls = [row for row in rows if row.role == "control"]
    owned = {name for row in rows for name in row.controls}
    for row, line in zip(rows, table, strict=True):
        if row.role == "control" or row.standard or not row.claims:
            continue
        better = line["verdict"] == "better"
        # a control that belongs to no row, such as the wrong metric, is everybody's
        own = [c for c in controls if c.name in row.controls or c.name not in owned]
        if better and not own:
            notes.append(
                f"{row.name} is better, but no control was run: the gain may have nothing to do with the metric"
            )
        for control in own:
            gap = _difference(tests[row.name], tests[control.name], ratio)
            seeds = len(tests[row.name])
            if control.shows:
                notes.append(_against(row.name, control, gap, sign, seeds))
            elif better and not (gap.p < ALPHA and sign * gap.mean > 0):
                notes.append(
                    f"{row.name} is better, but the control {control.name} shows the same gain ({row.name} - "
                    f"{control.name} = {six_digits(gap.mean, '+')}, p = {gap.p:.2g}): it is no evidence that training "
                    "on the metric helped"
                )
    return notes


def _against(name: str, control: Candidate, gap: Estimate, sign: int, seeds: int) -> str:
    """Whether a loss beat a control that takes one of its parts away."""
    words = f"({name} - {control.name} = {six_digits(gap.mean, '+')}, p = {gap.p:.2g})"
    if gap.low == gap.high == 0.0:
        return (
            f"{name} has the values of its control {control.name} to the digit, in every seed: what moves in it moved "
            "too little to change an answer; give it more steps, or larger steps of its own"
        )
    if seeds < ENOUGH_SEEDS:
        few = counted(seeds, "seed")
        return f"{name} against its control {control.name}: {six_digits(gap.mean, '+')} in {few}, too few to say more"
    if gap.p < ALPHA and sign * gap.mean > 0:
        return f"{name} beats its control {control.name} {words}, which shows {control.shows}"
    return f"{name} does not beat its control {control.name} {words}: nothing shows {control.shows}"


def _difference(a: dict[int, float | None], b: dict[int, float | None], ratio: float) -> Estimate:
    pairs = [(x, y) for seed, x in a.items() if x is not None and (y := b.get(seed)) is not None]
    return paired([x for x, _ in pairs], [y for _, y in pairs], ratio)


def _by_seed(runs: Sequence[Record], loss: str, key: str) -> dict[int, float | None]:
    return {run["seed"]: run[key] for run in runs if run["loss"] == loss}


def _decisions(runs: Sequence[Record], loss: str) -> dict[str, int]:
    """How many seeds of a loss took which kind, the most frequent first."""
    return dict(Counter(run["decision"] for run in runs if run["loss"] == loss and run["decision"]).most_common())


def _mean(values: dict[int, float | None]) -> float:
    known = [v for v in values.values() if v is not None]
    return math.fsum(known) / len(known) if known else math.nan


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
