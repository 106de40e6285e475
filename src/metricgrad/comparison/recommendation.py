"""What a comparison recommends: its rungs, what each added and cost, and the one to stand on, with the reason.

:mod:`metricgrad.comparison.climb` has the rule. Validation values decide; the test part has no say.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.climb import Step, Values, climb
from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.ladder import DECISION, Rung
from metricgrad.comparison.records import Record
from metricgrad.comparison.verdicts import ENOUGH_SEEDS, counted
from metricgrad.decisions.identity import Identity


def rungs_of(rows: Sequence[Candidate], runs: Sequence[Record]) -> list[Rung]:
    """The rungs of a comparison whose losses were named: standard losses first, then the others in their order.

    The first loss stands there twice where decisions changed anything of it: without and with them.
    """
    named = sorted((row for row in rows if row.role == "candidate"), key=lambda row: not row.standard)
    first = named[0].name
    decided = any(_changed_by_decision(run) for run in runs if run["loss"] == first)
    below = [Rung(first, first, decided=not decided)]
    return [*below, *([Rung(DECISION, first)] if decided else []), *(Rung(row.name, row.name) for row in named[1:])]


def _changed_by_decision(run: Record) -> bool:
    return run["decision"] not in (None, Identity.kind) and run["valid"] != run["valid_undecided"]


def values_of(rung: Rung, runs: Sequence[Record]) -> Values:
    """Validation values of a rung, seed by seed."""
    reading = "valid" if rung.decided else "valid_undecided"
    return {run["seed"]: run[reading] for run in runs if run["loss"] == rung.loss}


def climbed(
    rungs: Sequence[Rung], runs: Sequence[Record], *, higher_is_better: bool, ratio: float, guarded: bool
) -> list[Step]:
    """The steps over these rungs; see :func:`metricgrad.comparison.climb.climb`.

    Args:
        rungs: from the simplest on.
        runs: the final runs.
        higher_is_better: the metric's direction.
        ratio: as in ``climb``.
        guarded: whether cross-validation chose each decision; not where the user did.
    """
    values = [values_of(rung, runs) for rung in rungs]
    pairs = enumerate(itertools.pairwise(rungs), 1)
    agreed = [place for place, (below, rung) in pairs if guarded and _agreed(below, rung, runs)]
    return climb(values, higher_is_better=higher_is_better, ratio=ratio, agreed=agreed)


def _agreed(below: Rung, rung: Rung, runs: Sequence[Record]) -> bool:
    """Whether a rung is a decision on the loss of the one below, and every seed's cross-validation took one."""
    kinds = [run["decision"] for run in runs if run["loss"] == rung.loss]
    same = below.loss == rung.loss and rung.decided and not below.decided
    return same and all(kind not in (None, Identity.kind) for kind in kinds)


def chosen(steps: Sequence[Step]) -> int:
    """The number of the rung to stand on."""
    return max((rung for rung, step in enumerate(steps, 1) if step.taken), default=0)


def ladder_rows(
    rungs: Sequence[Rung], steps: Sequence[Step], runs: Sequence[Record], costs: Mapping[str, tuple[float, int]]
) -> list[dict[str, Any]]:
    """One row for each rung: rung, loss, decision, decisions, over, added, low, high, taken, seconds, runs, why.

    ``added`` is what it gains on validation over the rung ``over``, more is better whatever the metric's direction,
    and ``low ... high`` its 90 % interval: above 0 where a loss is taken. ``seconds`` and ``runs`` are what it cost
    beside the rungs before it: a decision needs no run of its own. ``why`` is why the task asks for it.

    Args:
        rungs: from the simplest on.
        steps: what came of each after the first.
        runs: the final runs.
        costs: loss -> seconds and runs, those of tuning included.
    """
    rows: list[dict[str, Any]] = []
    for place, rung in enumerate(rungs):
        step = steps[place - 1] if place else None
        shared = any(row["loss"] == rung.loss for row in rows)
        seconds, count = (0.0, 0) if shared else costs[rung.loss]
        rows.append(
            {
                "rung": rung.adds,
                "loss": rung.loss,
                "decision": decision_of(rung, runs),
                "decisions": _kinds(rung, runs),
                "over": rungs[step.over].adds if step else None,
                "added": _finite(step.added.mean) if step else None,
                "low": _finite(step.low) if step else None,
                "high": _finite(step.high) if step else None,
                "taken": step.taken if step else True,
                "seconds": seconds,
                "runs": count,
                "why": rung.why,
            }
        )
    return rows


def recommendation(rows: Sequence[Mapping[str, Any]], metric: str, seeds: int) -> dict[str, str]:
    """``{"loss", "decision", "why"}``: the last rung that was taken.

    Args:
        rows: of :func:`ladder_rows`.
        metric: its name.
        seeds: final runs of each loss.
    """
    place = max(place for place, row in enumerate(rows) if row["taken"])
    row, later = rows[place], [_said(row["rung"]) for row in rows[place + 1 :]]
    said = ""
    if place:
        added, low, high = ("" if row[key] is None else six_digits(row[key], "+") for key in ("added", "low", "high"))
        within = f"90 % interval {low} … {high}, " if low else ""
        said = (
            f"{_said(row['rung'])} gains {added} {metric} on validation over {_over(rows, row['over'])} "
            f"({within}{counted(seeds, 'seed')})"
        )
        if row["low"] is None or row["low"] <= 0 or seeds < ENOUGH_SEEDS:
            said += ", and every seed's cross-validation took a decision"
    if later:
        names = f"{', '.join(later[:-1])} or {later[-1]}" if later[1:] else later[0]
        few = f": that takes {ENOUGH_SEEDS} seeds or more, not {seeds}" if seeds < ENOUGH_SEEDS else ""
        under = "" if row["decision"] == "none" else " with its decision"
        nothing = f"nothing shows that {names} adds to {row['loss']}{under}{few}"
        said = f"{said}; {nothing}" if said else nothing
    return {"loss": row["loss"], "decision": row["decision"], "why": said or "it is the only one"}


def _said(rung: str) -> str:
    """A rung as it stands in a sentence.

    Example:
        >>> _said("+ decision"), _said("+ the metric"), _said("+ average of 3"), _said("lightgbm")
        ('a decision', 'the metric', 'an average of 3', 'lightgbm')
    """
    return rung.replace(DECISION, "+ a decision").replace("+ average", "+ an average").removeprefix("+ ")


def _over(rows: Sequence[Mapping[str, Any]], rung: str) -> str:
    return f"{rows[0]['loss']} with a decision" if rung == DECISION else _said(rung)


def decision_of(rung: Rung, runs: Sequence[Record]) -> str:
    """The kind that most seeds took, ``"none"`` where that is none."""
    most = next(iter(_kinds(rung, runs)), Identity.kind)
    return "none" if most == Identity.kind else most


def _kinds(rung: Rung, runs: Sequence[Record]) -> dict[str, int]:
    """In how many runs each kind was taken, the most frequent first; empty where the scores are read plainly."""
    kinds = Counter(run["decision"] for run in runs if run["loss"] == rung.loss and run["decision"])
    return dict(kinds.most_common()) if rung.decided else {}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
