"""The verdict in words: what to train with, and what the comparison shows of every loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.table import Table
from metricgrad.comparison.verdicts import ENOUGH_SEEDS, counted, words

_ORDER = ("better", "equivalent", "undecided", "worse", "too few seeds")
_SAID = {
    "better": "Better than {base}",
    "equivalent": "The same as {base}, within the margin",
    "undecided": "Not told from {base}",
    "worse": "Worse than {base}",
    "too few seeds": "Too few seeds to say",
    "failed": "Failed",
}


class Span(NamedTuple):
    """A mean and its 95 % interval, None where there are too few values."""

    mean: float | None
    low: float | None
    high: float | None


def baseline_of(table: Table) -> dict[str, Any]:
    """The row that all others are compared with."""
    return next(row for row in table.summary if row["verdict"] == "baseline")


def winner_of(table: Table) -> dict[str, Any]:
    """The row of the loss that is recommended."""
    return table[table.recommendation["loss"]]


def reading_of(table: Table) -> Literal["decided", "undecided"]:
    """Whether what is recommended goes through a decision."""
    return "undecided" if table.recommendation["decision"] == "none" else "decided"


def value_of(table: Table, row: Mapping[str, Any]) -> Span:
    """A row's mean test value and its interval, under the reading that is recommended."""
    plain = "_undecided" if reading_of(table) == "undecided" else ""
    return Span(row[f"mean{plain}"], row[f"low{plain}"], row[f"high{plain}"])


def headline(table: Table) -> str:
    """What to do, in one sentence."""
    base, winner, decision = baseline_of(table), winner_of(table), table.recommendation["decision"]
    if table.seeds < ENOUGH_SEEDS:
        return f"Too early to say: {counted(table.seeds, 'seed')}, and {ENOUGH_SEEDS} are needed for a verdict"
    under = "" if decision == "none" else f" and decide by {decision.replace('_', ' ')}"
    if winner["loss"] != base["loss"]:
        return f"Train with {winner['loss']}{under}"
    rest = "" if len(table.summary) == 1 else ": no other loss was shown to be worth it"
    what = "Keep" if base["loss"] == table.ladder[0]["loss"] else "Train with"
    return f"{what} {base['loss']}{under}{rest}"


def because(table: Table) -> str:
    """Why, in two or three sentences."""
    base, winner = baseline_of(table), winner_of(table)
    said = [f"Why: {table.recommendation['why']}."]
    value = value_of(table, winner)
    if value.mean is not None:
        said.append(f"The mean test {table.metric} is {six_digits(value.mean)}{_interval(value.low, value.high)}.")
    if winner["loss"] != base["loss"]:
        said.append(f"Against {base['loss']} the test part says {_gap(winner)}: {words(winner)}.")
    return " ".join(said)


def shown(table: Table) -> list[tuple[str, list[str]]]:
    """What the comparison shows of every other loss: a heading, and the losses under it with their differences."""
    base = baseline_of(table)
    groups: dict[str, list[str]] = {}
    for row in table.summary:
        if row is base:
            continue
        verdict = row["verdict"] if row["verdict"] in _ORDER else "failed"
        control = ", a control" if row["role"] == "control" else ""
        more = f"; {words(row)}" if verdict in ("undecided", "failed") else ""
        groups.setdefault(verdict, []).append(f"{row['loss']}{control} ({_gap(row)}{more})")
    return [(_SAID[name].format(base=base["loss"]), groups[name]) for name in (*_ORDER, "failed") if name in groups]


def amount(count: float) -> str:
    """A number of items, or a sum of weights, in at most four digits below a thousand, in whole numbers above.

    Example:
        >>> amount(7), amount(0.123456), amount(47463.12)
        ('7', '0.1235', '47,463')
    """
    return f"{count:.4g}" if count < 1000 else f"{count:,.0f}"


def _gap(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "no value"
    return f"{six_digits(row['difference'], '+')}{_interval(row['difference_low'], row['difference_high'], '+')}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f" [{six_digits(low, sign)}, {six_digits(high, sign)}]"
