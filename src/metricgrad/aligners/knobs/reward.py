"""From validation values to the reward of a move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal, TypedDict

from metricgrad.errors import MetricgradError

RewardKind = Literal["sign", "dead_zone", "soft"]
REWARD_KINDS: tuple[RewardKind, ...] = ("sign", "dead_zone", "soft")

_MEMORY = 0.9
_ZONE = 0.5


class Means(TypedDict):
    """A reward's running means."""

    square: float
    weight: float
    mean: float


class Reward:
    r"""The reward of an improvement :math:`\Delta` of the discounted metric, and its centring.

    ``"sign"`` is the paper's. The sign of a small change is mostly noise, so ``"dead_zone"`` is 0 below half of the
    usual size of a change, and ``"soft"`` is :math:`\tanh(\Delta / \text{usual size})`, the usual size being a running
    root mean square. Training improves the metric whatever the policy does, so a reward is centred: on the
    population's median, or for one child on the running mean of its rewards.

    Args:
        kind: ``"sign"``, ``"dead_zone"`` or ``"soft"``.
        centred: whether :meth:`advantages` takes the median or the running mean off.
    """

    def __init__(self, kind: RewardKind, *, centred: bool) -> None:
        if kind not in REWARD_KINDS:
            raise MetricgradError(f"reward is {kind!r}; expected one of {', '.join(map(repr, REWARD_KINDS))}")
        self.kind, self.centred = kind, centred
        self.square, self.weight, self.mean = 0.0, 0.0, 0.0

    def of(self, improvements: Sequence[float]) -> tuple[list[float], list[float]]:
        """Rewards and advantages of the children's improvements, in the metric's direction."""
        mean_square = math.fsum(d * d for d in improvements) / len(improvements)
        before = self.weight
        self.weight = _MEMORY * before + 1 - _MEMORY
        self.square = (_MEMORY * before * self.square + (1 - _MEMORY) * mean_square) / self.weight
        rewards = [self._one(d, math.sqrt(self.square)) for d in improvements]
        mean = math.fsum(rewards) / len(rewards)
        centre = median(rewards) if len(rewards) > 2 else (self.mean if before else mean)
        self.mean = (_MEMORY * before * self.mean + (1 - _MEMORY) * mean) / self.weight
        return rewards, [r - centre if self.centred else r for r in rewards]

    def _one(self, improvement: float, usual: float) -> float:
        if usual == 0:
            return 0.0
        if self.kind == "soft":
            return math.tanh(improvement / usual)
        zone = _ZONE * usual if self.kind == "dead_zone" else 0.0
        return math.copysign(1.0, improvement) if abs(improvement) > zone else 0.0

    def state(self) -> Means:
        """Plain numbers."""
        return {"square": self.square, "weight": self.weight, "mean": self.mean}

    def restore(self, state: Means) -> None:
        """What :meth:`state` gave."""
        if state["square"] < 0 or not 0 <= state["weight"] <= 1:
            raise MetricgradError(f"{state} are no running means: square is from 0, weight from 0 to 1")
        self.square, self.weight, self.mean = state["square"], state["weight"], state["mean"]
