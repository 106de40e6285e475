"""The pictures, as Plotly takes them: plain data and layout, colours by the names that the page gives them.

A colour is ``"var(--name)"``: the page puts in what the name is in light and in dark. Labels come from users; Plotly
reads some markup in them, so they are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from metricgrad.aligners.knobs.plot import by_peak
from metricgrad.comparison.report.evidence_file import Evidence as Kept
from metricgrad.comparison.report.wording import amount, baseline_of
from metricgrad.comparison.table import Table

Figure = dict[str, Any]
Evidence = Mapping[str, Kept]
"""Loss -> what was kept of its first run."""

SERIES = ("--blue", "--orange", "--green", "--purple", "--red", "--teal")
_LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def intervals(table: Table) -> Figure:
    """Every loss's mean with its interval, under its decision and without, over the dots of its seeds."""
    names = [_label(row) for row in table.summary]
    base = baseline_of(table)["loss"]
    colors = [
        _var("--grey" if row["role"] == "control" else "--orange" if row["loss"] == base else "--blue")
        for row in table.summary
    ]
    places = {row["loss"]: place for place, row in enumerate(table.summary)}
    runs = [run for run in table.runs if run["test"] is not None]
    dots: Figure = {
        "type": "scatter", "mode": "markers", "name": "one seed", "meta": "seeds",
        "x": [run["test"] for run in runs], "y": [places[run["loss"]] + 0.22 for run in runs],
        "text": [f"{escape(run['loss'])}, seed {run['seed']}" for run in runs],
        "hovertemplate": "%{text}: %{x:.4f}<extra></extra>",
        "marker": {"color": [colors[places[run["loss"]]] for run in runs], "size": 6, "opacity": 0.5},
    }  # fmt: skip
    decided = _means(table, "mean", colors, "with its decision", "decided", 0.0, filled=True)
    undecided = _means(table, "mean_undecided", colors, "without", "undecided", -0.22, filled=False)
    layout = {
        "height": 130 + 58 * len(names),
        "yaxis": {
            "tickvals": list(range(len(names))), "ticktext": names, "automargin": True, "zeroline": False,
            "range": [len(names) - 0.5, -0.5],
        },
        "xaxis": {"title": {"text": f"test {_text(table.metric)}, {_better(table)}"}, "zeroline": False},
        "legend": _LEGEND,
    }  # fmt: skip
    return {"data": [dots, decided, undecided], "layout": layout}


def training(table: Table, evidence: Evidence) -> Figure | None:
    """The validation metric after each epoch, one line a loss."""
    lines = [
        {
            **_line(place, row["loss"]),
            "x": [epoch["epoch"] + 1 for epoch in evidence[row["loss"]]["history"]],
            "y": [epoch["valid"] for epoch in evidence[row["loss"]]["history"]],
        }
        for place, row in enumerate(row for row in table.summary if row["loss"] in evidence)
    ]
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "zeroline": False},
        "yaxis": {"title": {"text": f"validation {_text(table.metric)}"}, "automargin": True, "zeroline": False},
        "legend": _LEGEND,
    }
    return {"data": lines, "layout": layout} if lines else None


def curve(predictions: Mapping[str, Any]) -> Figure | None:
    """Precision over recall of every cut, and where the decision and the plain reading are on it."""
    found = predictions.get("curve")
    if not found:
        return None
    data: list[Figure] = [{
        "type": "scatter", "mode": "lines", "name": "all cuts", "x": found["recall"], "y": found["precision"],
        "line": {"color": _var("--blue"), "width": 2, "shape": "vh"},
    }]  # fmt: skip
    for reading, name, symbol in (("decided", "the decision", "diamond"), ("undecided", "side of 0", "diamond-open")):
        (_, false), (missed, true) = predictions["confusion"][reading]
        if true + missed and true + false:
            data.append({
                "type": "scatter", "mode": "markers", "name": name, "x": [true / (true + missed)],
                "y": [true / (true + false)], "marker": {"color": _var("--orange"), "size": 13, "symbol": symbol},
            })  # fmt: skip
    axes = {"range": [-0.02, 1.02], "zeroline": False}
    return {
        "data": data,
        "layout": {
            "xaxis": {**axes, "title": {"text": "recall"}}, "yaxis": {**axes, "title": {"text": "precision"}},
            "legend": _LEGEND,
        },
    }  # fmt: skip


def calibration(predictions: Mapping[str, Any]) -> Figure | None:
    """How often it was so, over how sure the model was."""
    found = predictions.get("calibration")
    if not found:
        return None
    unit = "of weight" if predictions.get("weighted") else "items"
    line: Figure = {
        "type": "scatter", "mode": "lines", "name": "as sure as right", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
        "line": {"color": _var("--grey"), "width": 1, "dash": "dot"},
    }  # fmt: skip
    bins: Figure = {
        "type": "scatter", "mode": "lines+markers", "name": "test items", "x": found["said"], "y": found["seen"],
        "text": [f"{amount(count)} {unit}" for count in found["items"]], "line": {"color": _var("--blue"), "width": 2},
        "hovertemplate": "%{text}: said %{x:.2f}, so in %{y:.2f}<extra></extra>",
    }  # fmt: skip
    axes = {"range": [-0.02, 1.02], "zeroline": False}
    return {
        "data": [line, bins],
        "layout": {
            "xaxis": {**axes, "title": {"text": "probability said"}},
            "yaxis": {**axes, "title": {"text": "share that was so"}},
            "legend": _LEGEND,
        },
    }  # fmt: skip


def values(predictions: Mapping[str, Any]) -> Figure | None:
    """Predicted over true values of a regression, in the network's unit."""
    points = predictions.get("points")
    if not points:
        return None
    true, said = zip(*points, strict=True)
    ends = [min(true), max(true)]
    dots: Figure = {
        "type": "scatter", "mode": "markers", "name": "test items", "x": true, "y": said,
        "marker": {"color": _var("--blue"), "size": 5, "opacity": 0.5},
    }  # fmt: skip
    line: Figure = {
        "type": "scatter", "mode": "lines", "name": "as it is", "x": ends, "y": ends, "hoverinfo": "skip",
        "line": {"color": _var("--grey"), "width": 1, "dash": "dot"},
    }  # fmt: skip
    return {
        "data": [dots, line],
        "layout": {
            "xaxis": {"title": {"text": "true"}, "zeroline": False},
            "yaxis": {"title": {"text": "predicted"}, "zeroline": False},
            "showlegend": False,
        },
    }


def mismatch(table: Table, loss: str, found: Mapping[str, Any]) -> Figure:
    """The metric over the loss, one dot a block of validation rows."""
    losses, metric = zip(*found["points"], strict=True)
    return {
        "data": [{
            "type": "scatter", "mode": "markers", "name": "blocks", "x": losses, "y": metric,
            "marker": {"color": _var("--blue"), "size": 7, "opacity": 0.6},
        }],
        "layout": {
            "xaxis": {"title": {"text": _text(loss)}, "zeroline": False},
            "yaxis": {"title": {"text": _text(table.metric)}, "zeroline": False, "automargin": True},
            "showlegend": False,
        },
    }  # fmt: skip


def pushes(table: Table, evidence: Evidence) -> Figure | None:
    """How hard each learned loss pushes the right class's score up, as that score moves, beside the baseline."""
    drawn = {loss: found["push"] for loss, found in evidence.items() if found["push"] and found["learned"]}
    base = baseline_of(table)["loss"]
    if drawn and evidence.get(base, {}).get("push"):
        drawn = {base: evidence[base]["push"], **drawn}
    lines = [
        {**_line(place, loss), "x": push["score"], "y": push["push"]}
        for place, (loss, push) in enumerate(drawn.items())
    ]
    layout = {
        "xaxis": {"title": {"text": "score of the right class, others 0"}, "zeroline": False},
        "yaxis": {"title": {"text": "push, largest 1"}, "automargin": True},
        "legend": _LEGEND,
    }
    return {"data": lines, "layout": layout} if lines else None


def curriculum(found: Mapping[str, Any]) -> Figure:
    """Each knob's distance from where it began, as a colour over optimiser steps, earliest peak first."""
    order, rows, most = by_peak(found["knobs"])
    scale = [[0, _var("--blue")], [0.5, _var("--surface")], [1, _var("--orange")]]
    return {
        "data": [{
            "type": "heatmap", "x": found["step"], "y": [_text(name) for name in order], "z": rows, "zmin": -most,
            "zmax": most, "colorscale": scale, "hovertemplate": "%{y}, step %{x}: %{z:+.3f}<extra></extra>",
            "colorbar": {"thickness": 12, "outlinewidth": 0},
        }],
        "layout": {
            "height": max(320, 120 + 20 * len(order)),
            "xaxis": {"title": {"text": "optimiser step"}},
            "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        },
    }  # fmt: skip


def _means(
    table: Table, key: str, colors: Sequence[str], name: str, meta: str, shift: float, *, filled: bool
) -> Figure:
    ends = ("low", "high") if key == "mean" else ("low_undecided", "high_undecided")
    rows = [(place, row) for place, row in enumerate(table.summary) if row[key] is not None]
    bars = [
        (0.0, 0.0) if row.get(ends[0]) is None else (row[ends[1]] - row[key], row[key] - row[ends[0]])
        for _, row in rows
    ]
    shades = [colors[place] for place, _ in rows]
    return {
        "type": "scatter", "mode": "markers", "name": name, "meta": meta,
        "x": [row[key] for _, row in rows], "y": [place + shift for place, _ in rows],
        "text": [_label(row) for _, row in rows], "hovertemplate": f"%{{text}}, {name}: %{{x:.4f}}<extra></extra>",
        "error_x": {
            "type": "data", "symmetric": False,
            "array": [up for up, _ in bars], "arrayminus": [down for _, down in bars],
            "color": _var("--ink-soft"), "thickness": 1.5, "width": 4,
        },
        "marker": {
            "color": shades, "size": 11, "symbol": "diamond" if filled else "diamond-open",
            "line": {"width": 1.5, "color": shades},
        },
    }  # fmt: skip


def _line(place: int, name: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": _text(name),
        "line": {
            "color": _var(SERIES[place % len(SERIES)]), "width": 2, "dash": DASHES[place // len(SERIES) % len(DASHES)],
        },
    }  # fmt: skip


def _label(row: Mapping[str, Any]) -> str:
    return _text(row["loss"]) + (" (control)" if row["role"] == "control" else "")


def _better(table: Table) -> str:
    return f"{'higher' if table.higher_is_better else 'lower'} is better"


def _text(name: str) -> str:
    """At most 40 characters, none of them markup."""
    return escape(name if len(name) <= 40 else f"{name[:39]}…")


def _var(name: str) -> str:
    return f"var({name})"
