"""``report.html`` and ``report.md``: all that a study found, in one file that opens from disk and asks for nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from metricgrad.comparison.digits import six_digits
from metricgrad.comparison.report import evidence_file, figures, wording
from metricgrad.comparison.report.confusion import confusion_of
from metricgrad.comparison.report.study_file import About, read_study
from metricgrad.comparison.table import Table, kind_name, kinds, tried
from metricgrad.comparison.verdicts import counted, words
from metricgrad.writing import write_text

HTML, MARKDOWN = "report.html", "report.md"
_CAPTIONS = {
    "curve": ("Precision and recall", "Every cut of the scores, and where the decision and the plain reading are."),
    "calibration": ("Calibration", "How often it was so, over the probability that was said; the scores as they are."),
    "values": ("Predicted and true values", "At most a thousand test items, in the network's unit."),
}


@cache
def _template(name: str) -> Any:
    """Compiled once: that takes as long as a short training."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("metricgrad.comparison.report", "")
    environment = Environment(
        loader=loader, autoescape=name.endswith(".html.jinja"), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "kinds": kinds, "kind": kind_name, "tried": tried, "words": words, "cell": _markdown_cell,
        "counted": counted, "amount": wording.amount,
    }  # fmt: skip
    return environment.get_template(name)


@dataclass(frozen=True)
class Report:
    """A finished study, ready to be written.

    Attributes:
        table: what it found.
        about: of what, and how.
        evidence: what was kept of each loss's first run.
    """

    table: Table
    about: About
    evidence: figures.Evidence

    @classmethod
    def of(cls, folder: str | Path) -> Report:
        """The report of a folder that :func:`metricgrad.compare` wrote.

        Raises:
            MetricgradError: for a folder without a finished study.
        """
        table, about = read_study(folder)
        params = {run["loss"]: run["params"] for run in table.runs if run["seed"] == evidence_file.SEED}
        found = {loss: evidence_file.kept(Path(folder), loss, given) for loss, given in params.items()}
        return cls(table, about, {loss: kept for loss, kept in found.items() if kept is not None})

    def html(self) -> str:
        """One page, with its style, its script and Plotly in it: 5 MB."""
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs

        own = files("metricgrad.comparison.report")
        css, js = ((own / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        drawn = json.dumps(self._figures, allow_nan=False).replace("<", "\\u003c")
        return self._rendered(
            "page.html.jinja", css=Markup(css), js=Markup(js), plotly=Markup(get_plotlyjs()), figures=Markup(drawn)
        )

    def markdown(self) -> str:
        """The twin for pull requests: the words and the tables."""
        return self._rendered("page.md.jinja")

    def write(self, folder: Path) -> None:
        """Write both files."""
        write_text(folder / HTML, self.html())
        write_text(folder / MARKDOWN, self.markdown())

    def _rendered(self, name: str, **more: Any) -> str:
        return _template(name).render(**self._context, **more)

    @cached_property
    def _context(self) -> dict[str, Any]:
        table, drawn = self.table, self._figures
        base, winner = wording.baseline_of(table), wording.winner_of(table)
        kept = self.evidence.get(winner["loss"], {})
        predictions = [(name, *_CAPTIONS[name]) for name in _CAPTIONS if name in drawn]
        confusions = self._confusions(kept.get("predictions") or {})
        return {
            "table": table,
            "about": self.about,
            "base": base,
            "winner": winner,
            "headline": wording.headline(table),
            "because": wording.because(table),
            "shown": wording.shown(table),
            "facts": self._facts(base, winner),
            "ladder": table.ladder if len(table.ladder) > 1 else [],
            "predictions": predictions,
            "reading": wording.reading_of(table),
            "confusions": confusions,
            "notes": self._notes,
            "weighted": (kept.get("predictions") or {}).get("weighted", False),
            "decision_words": (kept.get("decision") or {}).get("words", ""),
            "training": "training" in drawn,
            "mismatches": self._mismatches,
            "learned": self._learned,
            "sections": self._sections(bool(predictions)),
        }

    @cached_property
    def _figures(self) -> dict[str, figures.Figure]:
        table, kept = self.table, self.evidence
        of_winner = (kept.get(wording.winner_of(table)["loss"]) or {}).get("predictions") or {}
        drawn = {
            "intervals": figures.intervals(table),
            "training": figures.training(table, kept),
            "curve": figures.curve(of_winner),
            "calibration": figures.calibration(of_winner),
            "values": figures.values(of_winner),
            "push": figures.pushes(table, kept),
        }
        drawn |= {one["figure"]: figures.mismatch(table, one["loss"], one) for one in self._mismatches}
        drawn |= {
            f"curriculum-{place}": figures.curriculum(one["curriculum"])
            for place, one in enumerate(kept.values())
            if one["curriculum"]
        }
        return {name: figure for name, figure in drawn.items() if figure is not None}

    @cached_property
    def _mismatches(self) -> list[dict[str, Any]]:
        """The baseline's and the winner's, or the other losses' where those are one."""
        order = [wording.baseline_of(self.table)["loss"], wording.winner_of(self.table)["loss"]]
        order += [row["loss"] for row in self.table.summary if row["role"] == "candidate"]
        found = [(loss, self.evidence[loss]["mismatch"]) for loss in dict.fromkeys(order) if loss in self.evidence]
        told = [(loss, one) for loss, one in found if one.get("value") is not None]
        return [{**one, "loss": loss, "figure": f"mismatch-{place}"} for place, (loss, one) in enumerate(told[:2])]

    @property
    def _notes(self) -> list[str]:
        """Those of the table, but for what is said of the losses that were not tried."""
        elsewhere = {f"not on the ladder: {name}: {why}" for name, why in self.about["not_tried"].items()}
        return [note for note in self.table.notes if note not in elsewhere]

    @property
    def _learned(self) -> list[tuple[str, str, str]]:
        found = []
        if "push" in self._figures:
            words = "How hard the loss pushes the score of the right class up as that score moves, scaled to 1."
            found.append(("push", "Shapes of learned losses", words))
        for place, (loss, one) in enumerate(self.evidence.items()):
            if curriculum := one["curriculum"]:
                shown, count = len(curriculum["knobs"]), curriculum["of"]
                which = "all its knobs" if shown == count else f"the {shown} of {count} that moved most"
                words = f"Distance of each knob from where it began, {which}, the earliest peak on top."
                found.append((f"curriculum-{place}", f"The curriculum of {loss}", words))
        return found

    def _confusions(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        found = predictions.get("confusion", {})
        alike = found.get("decided") == found.get("undecided")
        readings = ("decided",) if alike else ("decided", "undecided")
        return {reading: confusion_of(found[reading], self.about["classes"]) for reading in readings if found}

    def _facts(self, base: Mapping[str, Any], winner: Mapping[str, Any]) -> list[tuple[str, str]]:
        def mean(row: Mapping[str, Any], key: str) -> str:
            return "–" if row[key] is None else six_digits(row[key])

        name, metric = winner["loss"], self.table.metric
        facts = [(f"{metric} of {name}, decided", mean(winner, "mean"))]
        facts.append((f"{metric} of {name}, read plainly", mean(winner, "mean_undecided")))
        if name != base["loss"]:
            facts.append((f"{metric} of {base['loss']}, decided", mean(base, "mean")))
        seconds = sum(run["seconds"] or 0.0 for run in self.table.runs)
        return [*facts, ("seeds", str(self.table.seeds)), ("training of the final runs", f"{seconds:,.0f} s")]

    def _sections(self, predictions: bool) -> list[tuple[str, str]]:
        asked: Sequence[tuple[str, str, bool]] = (
            ("verdicts", "What it shows", True),
            ("losses", "All losses", True),
            ("predictions", "Predictions", predictions),
            ("training", "Training", "training" in self._figures),
            ("mismatch", "Loss and metric", bool(self._mismatches)),
            ("learned", "What was learned", bool(self._learned)),
            ("data", "Data", True),
            ("notes", "Notes", bool(self._notes)),
            ("left-out", "Not tried", True),
            ("how", "How it was made", True),
        )
        return [(id, name) for id, name, there in asked if there]


def write_report(folder: str | Path) -> Report:
    """Write ``report.html`` and ``report.md`` of a finished study into its folder.

    Args:
        folder: what ``out`` of :func:`metricgrad.compare` named.

    Raises:
        MetricgradError: for a folder without a finished study, or where the files cannot be written.
    """
    report = Report.of(folder)
    report.write(Path(folder))
    return report


def _markdown_cell(text: object) -> str:
    """Text in a cell of a table: no markup, no pipes, one line."""
    escaped = "".join(f"\\{sign}" if sign in "\\|*_`<>[]#" else sign for sign in str(text))
    return " ".join(escaped.split())
