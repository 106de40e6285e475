"""What comes of looking ahead, and its record: numbers for each update, the loss's shape at times, and one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from metricgrad.aligners.isolation import modules_of
from metricgrad.aligners.norms import norms
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.on_host import read
from metricgrad.writing import new_figure, write_figure

_PANELS = {
    "objective": "objective at the stepped weights",
    "gradient_norm": "norm of the training gradient",
    "implied_rate": "implied learning rate",
    "hypergradient_norm": "norm of the hypergradient",
}


@dataclass(frozen=True)
class LookAheadResult:
    """One look ahead.

    Attributes:
        gradients: of the objective with respect to each of the form's parameters.
        objective: its value at the stepped weights.
        gradient_norm: of the training gradient the optimiser saw.
        implied_rate: the step's length along the objective's gradient v, -(theta' - theta) . v / (v . v): the learning
            rate at which descent on the objective itself would have come as far; NaN where it was not measured.
        hypergradient_norm: of the gradients.
    """

    gradients: list[Tensor]
    objective: float
    gradient_norm: float
    implied_rate: float
    hypergradient_norm: float

    @classmethod
    def read(
        cls, gradients: list[Tensor], objective: Tensor, seen: list[Tensor],
        products: Sequence[tuple[Tensor, Tensor]] | None, steps: int = 1,
    ) -> LookAheadResult:  # fmt: skip
        """With its numbers, for all of which the host waits once.

        Args:
            gradients: as above.
            objective: 0-d.
            seen: the training gradient.
            products: for each parameter, 0-d each, (theta - theta') . v and v . v; None where not measured.
            steps: between theta and theta'.
        """
        lengths, ways = norms([*seen, *gradients]), [part for pair in products or () for part in pair]
        value, *numbers = read([objective.detach(), *lengths, *ways])
        length, hypergradient_norm = math.hypot(*numbers[: len(seen)]), math.hypot(*numbers[len(seen) : len(lengths)])
        progress, squared = sum(numbers[len(lengths) :: 2]), sum(numbers[len(lengths) + 1 :: 2])
        rate = math.nan if products is None else progress / steps / squared if squared > 0 else 0.0
        return cls(gradients, value, length, rate, hypergradient_norm)


NOT_REPEATED = "not repeated"
"""The kind of a step whose forward pass gives other outputs the second time."""


class SkippedStepError(MetricgradError):
    """Why a step's hypergradient cannot be told: raised and caught while looking ahead, and a user reads a warning.

    Args:
        kind: of the reason; each is said once.
        why: a sentence that names the cause and the remedy.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class History:
    """The record of one loss.

    Attributes:
        rows: one row for each look ahead: ``step``, ``objective``, ``gradient_norm``, ``implied_rate``,
            ``hypergradient_norm``.
        shapes: (step, curves of :meth:`metricgrad.losses.networks.neural.NeuralLoss.shape`) after 1, 2, 4, ... looks,
            for forms that have a shape.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.shapes: list[tuple[int, Mapping[str, Tensor]]] = []

    def note(self, step: int, ahead: LookAheadResult, form: Form) -> None:
        """Add a row."""
        self.rows.append({
            "step": step, "objective": ahead.objective, "gradient_norm": ahead.gradient_norm,
            "implied_rate": ahead.implied_rate, "hypergradient_norm": ahead.hypergradient_norm,
        })  # fmt: skip
        count = len(self.rows)
        shape: Any = _shape_of(form)
        if shape is not None and count & (count - 1) == 0:
            self.shapes.append((step, shape()))

    def plot(self, path: str | Path, form: Form) -> Path:
        """Write the picture as PNG; it needs matplotlib and no display.

        Raises:
            MetricgradError: before the first look ahead.
        """
        if not self.rows:
            raise MetricgradError("there is nothing to plot yet: train with the loss attached first")
        figure = new_figure(12, 6.5)
        axes = figure.subplots(2, 3).flatten()
        for ax, (name, title) in zip(axes, _PANELS.items(), strict=False):
            measured = [row for row in self.rows if row[name] == row[name]]
            ax.plot([row["step"] for row in measured], [row[name] for row in measured], color="#1f5fa8", linewidth=0.8)
            if name != "implied_rate":
                ax.set_yscale("log")
            ax.set_title(title, fontsize=10)
            ax.set_xlabel("optimiser step")
        shape: Any = _shape_of(form)
        shapes = [*self.shapes, (int(self.rows[-1]["step"]), shape())] if shape is not None else []
        for ax, target in zip(axes[len(_PANELS) :], ("target_1", "target_0"), strict=True):
            for place, (step, curves) in enumerate(shapes):
                shade = 0.15 + 0.85 * (place + 1) / len(shapes)
                label = f"step {step}" if place in (0, len(shapes) - 1) else None
                ax.plot(curves["prediction"], curves[target], color="#1f5fa8", alpha=shade, label=label)
            ax.set_title(f"the learned loss at {target.replace('_', ' ')}, light to dark", fontsize=10)
            ax.set_xlabel("prediction")
            if shapes:
                ax.legend(fontsize=8)
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
        return write_figure(figure, path)


def _shape_of(form: Form) -> Callable[[], Mapping[str, Tensor]] | None:
    """The curves of the learned part of a form, where it has some."""
    return next((part.shape for part in modules_of(form) if isinstance(part, NeuralLoss)), None)
