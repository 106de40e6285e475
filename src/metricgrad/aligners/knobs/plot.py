"""One picture of a training whose knobs were turned: the metric, the mismatch, the knobs, what moved them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.writing import new_figure, write_figure

BLUE, GREY, RED = "#1f5fa8", "#9a9a9a", "#c03a2b"
_LINES = 8
_NAMED = 24


def mismatch(history: Mapping[str, Any], metric: Metric) -> float:
    """Share of the periods in which the loss fell on validation data and the metric got worse, or the reverse.

    Periods in which either stood still do not count. 0: minimising the loss was improving the metric; a half: the loss
    said nothing of it. NaN where there is no such period.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    losses, values = _changes(history["loss"]), [sign * d for d in _changes(history["metric"])]
    told = [a * b for a, b in zip(losses, values, strict=True) if a * b]
    return sum(product > 0 for product in told) / len(told) if told else math.nan


def plot_history(history: Mapping[str, Any], path: str | Path, metric: Metric) -> Path:
    """Write the picture as PNG; it needs matplotlib and no display.

    Six panels over optimiser steps: the metric on training batches and on validation, the generalisation gap between
    them shaded; the loss and the metric on the same validation rows, with how often they disagree; the knobs; the
    rewards with their running mean; how sure the policy is of its actions, and the largest knob; and the curriculum,
    each knob's deviation from where it began as a colour, in the order in which the knobs moved most, which for class
    pairs and distances shows what got weight when.

    Args:
        history: of :attr:`metricgrad.aligners.knobs.controller.KnobController.history`, or one of a population's.
        path: of the PNG.
        metric: for its name and its direction.

    Raises:
        MetricgradError: before the first period has ended.
    """
    if not history["step"]:
        raise MetricgradError("there is nothing to plot yet: train with the loss attached first")
    figure = new_figure(13, 7)
    axes = figure.subplots(2, 3).flatten()
    steps = history["step"]
    _gap(axes[0], steps, history, metric)
    _disagreement(axes[1], steps, history, metric)
    _knobs(axes[2], steps, history["knobs"])
    axes[3].plot(steps, history["reward"], ".", color=GREY, markersize=3, label="reward")
    axes[3].plot(steps, running(history["reward"]), color=BLUE, label="running mean")
    axes[3].set_title("reward of the period", fontsize=10)
    axes[4].plot(steps, history["entropy"], color=BLUE, label="entropy of the actions")
    axes[4].plot(steps, history["largest"], color=RED, linewidth=0.8, label="largest knob")
    axes[4].axhline(math.log(3), color=GREY, linewidth=0.6, linestyle=":")
    axes[4].set_title("how sure, and how far", fontsize=10)
    _curriculum(figure, axes[5], steps, history["knobs"])
    for ax in axes:
        ax.set_xlabel("optimiser step")
        ax.spines[["top", "right"]].set_visible(False)
        if ax.get_legend_handles_labels()[0] and ax.get_legend() is None:
            ax.legend(fontsize=8)
    return write_figure(figure, path)


def running(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """The exponentially weighted mean of what came so far; NaN adds nothing."""
    total, weight, found = 0.0, 0.0, []
    for value in values:
        if not math.isnan(value):
            total, weight = keep * total + value, keep * weight + 1
        found.append(total / weight if weight else math.nan)
    return found


def _changes(values: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(values)]


def _gap(ax: Any, steps: list[float], history: Mapping[str, Any], metric: Metric) -> None:
    train, valid = running(history["train_metric"]), running(history["metric"])
    ax.plot(steps, train, color=GREY, label="training batches")
    ax.plot(steps, valid, color=BLUE, label="validation")
    ax.fill_between(steps, train, valid, color=GREY, alpha=0.2)
    last = train[-1] - valid[-1]
    ax.set_title(f"{metric.name}\ngeneralisation gap {last:+.3f} at the end", fontsize=10)


def _disagreement(ax: Any, steps: list[float], history: Mapping[str, Any], metric: Metric) -> None:
    other = ax.twinx()
    ax.plot(steps, history["loss"], color=RED, linewidth=0.9, label="validation loss")
    other.plot(steps, history["metric"], color=BLUE, linewidth=0.9, label=metric.name)
    if metric.higher_is_better:
        other.invert_yaxis()
    lines = [*ax.get_lines(), *other.get_lines()]
    ax.legend(lines, [line.get_label() for line in lines], fontsize=8)
    other.spines["top"].set_visible(False)
    share = mismatch(history, metric)
    said = "" if math.isnan(share) else f"\nthey disagree in {100 * share:.0f} % of the periods"
    ax.set_title(f"loss-metric mismatch, better is down{said}", fontsize=10)


def _knobs(ax: Any, steps: list[float], knobs: Mapping[str, list[float]]) -> None:
    moved = sorted(knobs, key=lambda name: -max(abs(value - knobs[name][0]) for value in knobs[name]))
    for place, name in enumerate(moved):
        label = name if place < _LINES else None
        ax.plot(steps, knobs[name], linewidth=0.9, alpha=1.0 if label else 0.2, label=label)
    ax.set_title(
        "knobs" if len(knobs) <= _LINES else f"knobs, the {_LINES} of {len(knobs)} that moved most", fontsize=10
    )


def by_peak(knobs: Mapping[str, Sequence[float]]) -> tuple[list[str], list[list[float]], float]:
    """Names of knobs, those farthest from their start earliest first; how far each was when; and the most of all."""

    def peak(name: str) -> int:
        far = [abs(value - knobs[name][0]) for value in knobs[name]]
        return far.index(max(far))

    order = sorted(knobs, key=peak)
    rows = [[value - knobs[name][0] for value in knobs[name]] for name in order]
    most = max((abs(value) for row in rows for value in row), default=0.0) or 1.0
    return order, rows, most


def _curriculum(figure: Any, ax: Any, steps: list[float], knobs: Mapping[str, list[float]]) -> None:
    order, rows, most = by_peak(knobs)
    picture = ax.imshow(
        rows, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest",
        extent=(steps[0], max(steps[-1], steps[0] + 1), len(order) - 0.5, -0.5),
    )  # fmt: skip
    if len(order) <= _NAMED:
        ax.set_yticks(range(len(order)), order, fontsize=7)
    else:
        ax.set_yticks([])
    figure.colorbar(picture, ax=ax, shrink=0.8)
    ax.set_title("curriculum: away from the start, earliest peak first", fontsize=10)
