"""A bandit in place of REINFORCE: which way each knob helps, from a Bayesian regression over all periods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.aligners.knobs.policy_network import ACTIONS, Choice
from metricgrad.aligners.knobs.state import Child
from metricgrad.aligners.knobs.state_buffers import Renamed, Slot, StateBuffers
from metricgrad.losses.base import Knob

MOST_KNOBS = 10
"""Beyond this, a run has fewer periods than it takes to tell the knobs apart."""

_NUISANCES = 2
_ENOUGH = 4
_CAPACITY = 512
_LOOSE = 1e-2
_HALF_LIFE = 20.0
_LEVEL = 1 / ACTIONS
_SLOTS = {
    "rows": Slot(torch.float64, ("periods", "columns"), group="rows"),
    "gains": Slot(torch.float64, ("periods", 2), group="rows"),
}


class Bandit(Renamed):
    r"""Thompson sampling of the direction in which each knob improves the metric.

    .. math:: \Delta_t = a + b^\top x_t + c\, M_{t-1} + d\, \tfrac tT + \varepsilon, \qquad b \sim N(0, I)

    in units of the deviations of :math:`\Delta` and of each knob. Where the knobs *are*
    decides how a period goes, not how they last moved: that is what makes far fewer periods do than REINFORCE needs.
    What any training run does, improving less the better it is, is in c and d and credited to no knob. A knob moves
    with the sign of its slope in one draw from the posterior; without evidence that is a random walk.

    Cost: O(periods x knobs^2) a move.
    """

    renamed: ClassVar[Mapping[str, str]] = {"shelf": "state"}

    def __init__(self) -> None:
        super().__init__()
        self.state = StateBuffers(_SLOTS)

    def store(self, child: Child, improvement: float, period: int) -> None:
        """Add how the period went whose knobs wait in the child's memory."""
        self.state.push("rows", child.memory["move_row"][None], _CAPACITY)
        self.state.push("gains", torch.tensor([[improvement, period]], dtype=torch.float64), _CAPACITY)

    def choose(self, children: Sequence[Sequence[Knob]], generator: torch.Generator) -> list[Choice]:
        """Draw an action for each knob of each child, each child from the one posterior."""
        if "gains" not in self.state or len(self.state["gains"]) < _ENOUGH:
            return [_random(len(knobs), generator) for knobs in children]
        gains, periods = self.state["gains"].T
        mean, root = posterior(self.state["rows"], gains, periods[-1] - periods)
        p = torch.special.ndtr(mean / root.square().sum(1).sqrt())[_NUISANCES:].clamp(1e-12, 1 - 1e-12)
        entropy = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        found = []
        for _ in children:
            draw = mean + root @ torch.randn(len(mean), generator=generator, dtype=mean.dtype)
            up = draw[_NUISANCES:] > 0
            found.append(Choice(2 * up.long(), torch.where(up, p, 1 - p).log(), entropy))
        return found

    @staticmethod
    def wait(child: Child, knobs: Sequence[Knob], progress: float) -> None:
        """Note where the knobs stand, after a move, for the period to come."""
        where = [(float(knob.parameter) - knob.low) / knob.unit - 1 for knob in knobs]
        before = float(child.memory["metric"][-1])
        child.memory["move_row"] = torch.tensor([before, progress, *where], dtype=torch.float64)


def _random(knobs: int, generator: torch.Generator) -> Choice:
    actions = torch.randint(ACTIONS, (knobs,), generator=generator)
    logs = torch.full((knobs,), _LEVEL).log()
    return Choice(actions, logs, -float(logs.mean()))


def posterior(rows: Tensor, gains: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and a root of the covariance of the slopes.

    Args:
        rows: ``(n, 2 + knobs)``: the metric before, the progress, and the knobs.
        gains: ``(n,)`` improvements.
        ages: ``(n,)``, in periods: what helps early need not help late, so a row counts half after 20.
    """
    weights = 0.5 ** (ages / _HALF_LIFE)
    share = weights / weights.sum()
    inside, gains = rows - share @ rows, gains - share @ gains
    scale = (share @ inside.square()).sqrt().clamp(min=1e-9)
    inside, gains = inside / scale, gains / (share @ gains.square()).sqrt().clamp(min=1e-12)
    prior = torch.ones_like(scale)
    prior[:_NUISANCES] = _LOOSE
    covariance = torch.linalg.inv((inside.T * weights) @ inside + prior.diag())
    mean = covariance @ (inside.T @ (weights * gains))
    rest = gains - inside @ mean
    variance = (weights @ rest.square() + 1) / (weights.sum() + 1)
    return mean, torch.linalg.cholesky((covariance + covariance.T) / 2 * variance)
