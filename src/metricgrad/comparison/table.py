"""The outcome of a comparison, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from metricgrad.comparison.records import SCHEMA, Record
from metricgrad.comparison.verdicts import words
from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    import pandas
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Losses compared on one task by one metric.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        higher_is_better: the metric's direction.
        runs: one record for each loss and seed: loss, role, seed, valid and test (of decided scores), valid_undecided
            and test_undecided (of the plain reading of the same scores), decision (its kind), seconds, params.
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

    def rich(self) -> RichTable:
        """For a terminal; controls are dimmed.

        ``mean`` is of the scores under the decision that each seed's validation part asked for, ``undecided`` of the
        plain reading of the same scores; all further columns are about the former.
        """
        from rich.table import Table as RichTable

        arrow = "↑" if self.higher_is_better else "↓"
        shown = RichTable(
            title=f"{self.task}, test {self.metric} {arrow}, {self.seeds} seeds, margin {self.margin:.2g}",
            title_justify="left",
        )
        for name in ("loss", "mean", "undecided", "decision", "95 % interval", "difference", "95 % interval", "p",
                     "seconds", "verdict"):  # fmt: skip
            shown.add_column(
                name, justify="left" if name in ("loss", "decision", "verdict") else "right", overflow="fold"
            )
        for row in self.summary:
            base = row["verdict"] == "baseline"
            name = row["loss"] + (" (control)" if row["role"] == "control" else "")
            shown.add_row(
                name,
                _number(row["mean"]),
                _number(row["mean_undecided"]),
                kinds(row["decisions"]),
                _interval(row["low"], row["high"], ".4f"),
                "" if base else _number(row["difference"], "+.4f"),
                "" if base else _interval(row["difference_low"], row["difference_high"], "+.4f"),
                "" if base else _number(row["p"], ".2g"),
                _number(row["seconds"], ".1f"),
                words(row),
                style="dim" if row["role"] == "control" else None,
            )
        return shown

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=150, no_color=True)
        with console.capture() as captured:
            console.print(self.rich())
            console.print(self.rungs())
        return "\n".join([captured.get().rstrip(), self.recommended(), *self.notes])

    def rungs(self) -> RichTable:
        """The ladder for a terminal: what each rung gains on validation over the one taken before it, and its cost."""
        from rich.table import Table as RichTable

        shown = RichTable(title=f"what each rung adds, validation {self.metric}", title_justify="left")
        for name in ("rung", "loss", "decision", "over", "adds", "90 % interval", "runs", "seconds", "taken"):
            shown.add_column(name, justify="right" if name in ("adds", "90 % interval", "runs", "seconds") else "left")
        for row in self.ladder:
            first = row["over"] is None
            shown.add_row(
                row["rung"],
                row["loss"],
                row["decision"],
                row["over"] or "",
                "" if first else _number(row["added"], "+.4f"),
                "" if first else _interval(row["low"], row["high"], "+.4f"),
                str(row["runs"]),
                _number(row["seconds"], ".0f"),
                "" if first else "yes" if row["taken"] else "no",
            )
        return shown

    def recommended(self) -> str:
        """The recommendation in one sentence."""
        loss, decision, why = (self.recommendation[key] for key in ("loss", "decision", "why"))
        return f"recommended: {loss}, {'no decision' if decision == 'none' else f'decision {decision}'}: {why}"


def kinds(decisions: Mapping[str, int]) -> str:
    """The kinds, the most frequent first, with in how many seeds each was taken where they differ."""
    names = {kind_name(kind): count for kind, count in decisions.items()}
    return next(iter(names)) if len(names) == 1 else ", ".join(f"{name} {count}" for name, count in names.items())


def kind_name(kind: str) -> str:
    """A decision's kind as people read it."""
    return "none" if kind == "identity" else kind


def _number(value: float | None, style: str = ".4f") -> str:
    return "–" if value is None else format(value, style)


def _interval(low: float | None, high: float | None, style: str) -> str:
    return "–" if low is None or high is None else f"{low:{style}} … {high:{style}}"
