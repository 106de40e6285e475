"""One picture of what a policy did: the metric, the rewards, its certainty, and the knobs over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.writing import write_figure

_DARK, _LIGHT, _LOSS = "#1f5fa8", "#9a9a9a", "#b3591c"
_LINES = 10


def plot_history(history: dict[str, Any], path: str | Path, *, title: str = "") -> Path:
    """Draw the ``history`` of a :class:`~metricgrad.aligners.policy.Policy` or of a random walk as PNG.

    Four panels over optimiser steps: the validation metric and, on its own axis, the loss on the same rows (where the
    one rises while the other does not fall, they mismatch); the reward of each period; the entropy of the actions,
    log 3 for a random walk, with the largest absolute knob; and the knobs: lines for up to ten, a map of all of them
    for more, which for a matrix of classes is the curriculum.

    Args:
        history: ``loss.aligner.history``.
        path: where the PNG goes; no display is needed.
        title: above it.

    Raises:
        MetricgradError: where nothing was recorded yet.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, knobs = history["step"], history["knobs"]
    if not steps:
        raise MetricgradError("history is empty: no period has ended; attach the loss with valid=, or observe")
    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, certain, bottom = figure.subplots(4, 1, sharex=True, height_ratios=[2, 1, 1, 3])
    top.plot(steps, history["metric"], color=_DARK)
    top.set_ylabel("validation metric", color=_DARK)
    other = top.twinx()
    other.plot(steps, history["loss"], color=_LOSS, linewidth=1)
    other.set_ylabel("validation loss", color=_LOSS)
    middle.vlines(steps, 0, history["reward"], color=_DARK)
    middle.axhline(0, color=_LIGHT, linewidth=0.8)
    middle.set_ylabel("reward")
    certain.plot(steps, history["entropy"], color=_DARK, label="entropy of the actions")
    certain.plot(steps, history["largest"], color=_LOSS, label="largest |knob|")
    certain.legend(fontsize=7, frameon=False)
    if len(knobs) <= _LINES:
        for name, values in knobs.items():
            bottom.plot(steps, values, label=name)
        bottom.legend(fontsize=7, frameon=False)
        bottom.set_ylabel("knobs")
    else:
        start = [values[0] for values in knobs.values()]
        moved = [[v - first for v in values] for values, first in zip(knobs.values(), start, strict=True)]
        most = max(max(map(abs, row)) for row in moved) or 1.0
        edges = [steps[0], max(steps[-1], steps[0] + 1)]
        picture = bottom.imshow(
            moved, aspect="auto", cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest",
            extent=(edges[0], edges[1], len(knobs) - 0.5, -0.5),
        )  # fmt: skip
        every = -(-len(knobs) // 30)
        bottom.set_yticks(range(0, len(knobs), every), list(knobs)[::every], fontsize=5)
        figure.colorbar(picture, ax=bottom, label="moved since the start")
    bottom.set_xlabel("optimiser step")
    for axes in (top, middle, certain):
        axes.spines[["top"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return write_figure(figure, path)
