"""The outcome of a comparison, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.records import SCHEMA, Record
from metricgrad.comparison.terminal import Column, fitted
from metricgrad.comparison.verdicts import ENOUGH_SEEDS, counted, words
from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    import pandas
    from rich.table import Table as RichTable

_WIDEST = 400
"""Characters of a line in a file, where no cell is broken."""


@dataclass(frozen=True)
class Table:
    """Losses compared on one task by one metric.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        higher_is_better: the metric's direction.
        runs: one record for each loss and seed: loss, role, seed, valid and test (of decided scores), valid_undecided
            and test_undecided (of the plain reading, at the epoch best by it), decision (its kind), seconds, params.
        margin: a difference below it is none that matters, in the metric's units.
        summary: one row for each loss: loss, role, mean, mean_undecided, decisions (how many seeds took which kind),
            low, high, difference (from the baseline), p, verdict
            (``"baseline"``, ``"better"``, ``"worse"``, ``"equivalent"`` within the margin, ``"undecided"``, ``"too few
            seeds"``, or in how many seeds it failed), more_seeds (about how many would tell where it is undecided; None
            where no number of them would), ...
        ladder: one row for each rung, the simplest first: rung, loss, decision, over, added, low, high, taken, seconds,
            runs, why; see :func:`metricgrad.comparison.recommendation.ladder_rows`.
        recommendation: loss, decision (a kind, or ``"none"``) and why: the last rung taken, never the best mean.
        notes: what the verdicts do not say.
        path: the folder with results.jsonl, study.json, report.html, report.md and compare.png.
    """

    task: str
    metric: str
    higher_is_better: bool
    margin: float
    runs: list[Record]
    summary: list[dict[str, Any]]
    ladder: list[dict[str, Any]] = field(default_factory=list)
    recommendation: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON that ``metricgrad compare --json`` prints."""
        return {
            "schema": SCHEMA,
            "task": self.task,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "margin": self.margin,
            "runs": self.runs,
            "summary": self.summary,
            "ladder": self.ladder,
            "recommendation": self.recommendation,
            "notes": self.notes,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], path: Path | None = None) -> Self:
        """The table that :meth:`to_dict` described.

        Raises:
            MetricgradError: where something of it is missing.
        """
        names = [one.name for one in fields(cls) if one.name != "path"]
        if found.get("schema") != SCHEMA or any(name not in found for name in names):
            raise MetricgradError(f"{str(path)!r} holds no table of this version; run the study again there")
        return cls(**{name: found[name] for name in names}, path=path)

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return len({run["seed"] for run in self.runs})

    def to_frame(self) -> pandas.DataFrame:
        """The runs as a data frame."""
        import pandas

        return pandas.DataFrame(self.runs)

    def __getitem__(self, loss: str) -> dict[str, Any]:
        return next(row for row in self.summary if row["loss"] == loss)

    def rich(self, width: int | None = None) -> RichTable:
        """For a terminal of ``width`` characters; controls are dimmed.

        ``mean`` is of the scores under the decision that each seed's validation part asked for, ``without decision`` of
        what is delivered without any; all further columns are about the former.
        """
        rows, arrow = self.summary, "↑" if self.higher_is_better else "↓"
        base = [row["verdict"] == "baseline" for row in rows]

        def number(key: str, style: str) -> list[str]:
            return [_number(row[key], style) for row in rows]

        def value(key: str, sign: str = "") -> list[str]:
            return [_value(row[key], sign) for row in rows]

        def against(cells: list[str]) -> list[str]:
            return ["" if own else cell for own, cell in zip(base, cells, strict=True)]

        gaps = [_interval(row["difference_low"], row["difference_high"], "+") for row in rows]
        columns = [
            Column("loss", [row["loss"] + " (control)" * (row["role"] == "control") for row in rows], of_words=True),
            Column("mean", value("mean")),
            Column("without decision", value("mean_undecided"), spare=2),
            Column("decision", [kinds(row["decisions"]) for row in rows], of_words=True, spare=4),
            Column("95 % interval", [_interval(row["low"], row["high"]) for row in rows]),
            Column(
                next((f"minus {row['loss']}" for row in rows if row["verdict"] == "baseline"), "difference"),
                against(value("difference", "+")),
            ),
            Column("its 95 % interval", against(gaps)),
            Column("p", against(number("p", ".2g")), spare=3),
            Column("seconds", number("seconds", ".1f"), spare=1),
            Column("verdict", [words(row) for row in rows], of_words=True),
        ]
        title = f"{self.task}, test {self.metric} {arrow}, {counted(self.seeds, 'seed')}, margin {self.margin:.2g}"
        return fitted(title, columns, [row["role"] == "control" for row in rows], width)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=_WIDEST, no_color=True)
        with console.capture() as captured:
            console.print(self.rich())
            console.print(self.rungs())
        return "\n".join([captured.get().rstrip(), self.recommended(), *self.notes])

    def rungs(self, width: int | None = None) -> RichTable:
        """The ladder for a terminal: what each rung gains on validation over the one taken before it, and its cost."""
        rows, first = self.ladder, [row["over"] is None for row in self.ladder]

        def after(cells: list[str]) -> list[str]:
            return ["" if none else cell for none, cell in zip(first, cells, strict=True)]

        columns = [
            Column("rung", [row["rung"] for row in rows], of_words=True),
            Column("loss", [row["loss"] for row in rows], of_words=True, spare=3),
            Column("decision", [tried(row) for row in rows], of_words=True, spare=4),
            Column("over", [row["over"] or "" for row in rows], of_words=True),
            Column("adds", after([_value(row["added"], "+") for row in rows])),
            Column("90 % interval", after([_interval(row["low"], row["high"], "+") for row in rows])),
            Column("runs", [str(row["runs"]) for row in rows], spare=1),
            Column("seconds", [_number(row["seconds"], ".0f") for row in rows], spare=2),
            Column("taken", after(["yes" if row["taken"] else "no" for row in rows]), of_words=True),
        ]
        return fitted(f"what each rung adds, validation {self.metric}", columns, [False] * len(rows), width)

    def recommended(self) -> str:
        """The recommendation in one sentence."""
        loss, decision, why = (self.recommendation[key] for key in ("loss", "decision", "why"))
        early = "" if self.seeds >= ENOUGH_SEEDS else "too early for a verdict; until then "
        return f"{early}recommended: {loss}, {'no decision' if decision == 'none' else f'decision {decision}'}: {why}"


def kinds(decisions: Mapping[str, int]) -> str:
    """The kinds, the most frequent first, with in how many seeds each was taken where they differ."""
    names = {kind_name(kind): count for kind, count in decisions.items()}
    return next(iter(names)) if len(names) == 1 else ", ".join(f"{name} {count}" for name, count in names.items())


def tried(rung: Mapping[str, Any]) -> str:
    """The decisions of a rung's runs, each with how many seeds took it; the one of all in tables of before."""
    return kinds(rung["decisions"]) if rung.get("decisions") else rung["decision"]


def kind_name(kind: str) -> str:
    """A decision's kind as people read it."""
    return "none" if kind == "identity" else kind


def _value(value: float | None, sign: str = "") -> str:
    return "–" if value is None else six_digits(value, sign)


def _number(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "–" if low is None or high is None else f"{six_digits(low, sign)} … {six_digits(high, sign)}"
