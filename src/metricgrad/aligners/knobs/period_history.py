"""What a knob controller notes at the end of each period, and how it reads as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from metricgrad.aligners.knobs.observation import Observation
from metricgrad.aligners.knobs.policy_network import Choice
from metricgrad.aligners.knobs.state import Child
from metricgrad.errors import MetricgradError

NOTED = ("step", "progress", "metric", "loss", "improvement", "reward", "advantage", "entropy", "largest",
         "train_metric", "train_loss")  # fmt: skip
"""The columns beside the knobs."""


def note(seen: Observation, step: int, reward: float, advantage: float, choice: Choice | None) -> None:
    """Add a period to its child's memory, the knobs as they are after the move."""
    values = [float(knob.parameter) for knob in seen.form.knobs().values()]
    memory = seen.child.memory
    entropy = math.log(3) if choice is None else choice.entropy
    measured = [float(memory[name][-1]) for name in ("metric", "loss")]
    earned = [seen.improvement or 0.0, reward, advantage, entropy, max(map(abs, values)), *memory["train"].tolist()]
    row = [float(step), seen.progress, *measured, *earned, *values]
    memory.push("history", torch.tensor([row], dtype=torch.float64), 2**31)


def columns(child: Child, names: Sequence[str]) -> dict[str, Any]:
    """One entry a period in each column: those of :data:`NOTED`, and ``knobs``, name -> values."""
    rows = child.memory["history"].T.tolist() if "history" in child.memory else []
    if rows and len(rows) != len(NOTED) + len(names):
        raise MetricgradError(f"the history has {len(rows)} columns, which are not those of {len(names)} knobs")
    found: dict[str, Any] = dict(zip(NOTED, rows, strict=False)) if rows else {name: [] for name in NOTED}
    found["knobs"] = dict(zip(names, rows[len(NOTED) :], strict=True)) if rows else {}
    return found
