"""The policy: a network of two layers of 32 units, its replay of recent transitions, and REINFORCE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metricgrad.aligners.policy_state import FEATURES, ROLES
from metricgrad.aligners.shelf import Shelf

WIDTH = 32
ACTIONS = 3
_SHAPES = [(WIDTH, FEATURES + ROLES), (WIDTH,), (WIDTH, WIDTH), (WIDTH,), (ACTIONS, WIDTH), (ACTIONS,)]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_MOST_WEIGHT = 2.0


class Choice(NamedTuple):
    """What was chosen for each knob: ``(knobs,)`` action numbers, their log-probabilities, and the mean entropy."""

    actions: Tensor
    logs: Tensor
    entropy: float


@dataclass(frozen=True)
class Learning:
    """How the policy learns.

    Attributes:
        lr: Adam's learning rate.
        entropy: weight of the entropy bonus.
        importance: whether replayed transitions are weighted by how likely they are now.
        capacity: transitions in the replay.
        updates: steps of Adam after each move.
        batch: transitions in a step.
    """

    lr: float
    entropy: float
    importance: bool
    capacity: int
    updates: int
    batch: int


class PolicyNetwork(nn.Module):
    """Maps the state of a knob to the probabilities of turning it down, leaving it, and turning it up.

    Weights, Adam's moments and the replay are one :class:`Shelf`, so that a resumed run learns on as an undisturbed
    one would. The last layer starts at 0: every action is equally likely at first.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.shelf = Shelf()
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for shape in _SHAPES[:4]:
            fan_in = shape[-1] if len(shape) == 2 else WIDTH
            parts.append((torch.rand(shape, generator=generator) * 2 - 1).flatten() / math.sqrt(fan_in))
        parts += [torch.zeros(math.prod(shape)) for shape in _SHAPES[4:]]
        self.shelf["weights"] = torch.cat(parts)

    def logs(self, states: Tensor, weights: Tensor | None = None) -> Tensor:
        """``(knobs, 3)`` log-probabilities of the actions."""
        flat = self.shelf["weights"] if weights is None else weights
        sizes = [math.prod(shape) for shape in _SHAPES]
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), _SHAPES, strict=True)]
        for weight, bias in zip(parts[0:4:2], parts[1:4:2], strict=True):
            states = nn.functional.linear(states, weight, bias).relu()
        return nn.functional.linear(states, parts[4], parts[5]).log_softmax(-1)

    @torch.no_grad()
    def choose(self, states: Tensor, generator: torch.Generator) -> Choice:
        """Draw an action for each knob."""
        logs = self.logs(states)
        actions = torch.multinomial(logs.exp(), 1, generator=generator)
        entropy = float(-(logs.exp() * logs).sum(-1).mean())
        return Choice(actions[:, 0], logs.gather(1, actions)[:, 0], entropy)

    def store(self, states: Tensor, choice: Choice, advantage: float, capacity: int) -> None:
        """Put the transitions of one move into the replay."""
        for name, rows in (
            ("states", states),
            ("actions", choice.actions),
            ("logs", choice.logs),
            ("advantages", torch.full((len(states),), advantage)),
        ):
            self.shelf.push("replay_" + name, rows, capacity)

    def learn(self, how: Learning, generator: torch.Generator) -> None:
        """REINFORCE on transitions drawn from the replay."""
        stored = len(self.shelf["replay_actions"]) if "replay_actions" in self.shelf else 0
        for _ in range(how.updates if stored else 0):
            some = torch.randint(stored, (min(how.batch, stored),), generator=generator)
            states, actions, old, advantages = (
                self.shelf["replay_" + name][some] for name in ("states", "actions", "logs", "advantages")
            )
            with torch.enable_grad():
                weights = self.shelf["weights"].clone().requires_grad_()
                logs = self.logs(states, weights)
                taken = logs.gather(1, actions[:, None])[:, 0]
                gain = advantages * taken
                if how.importance:
                    gain = gain * (taken.detach() - old).exp().clamp(max=_MOST_WEIGHT)
                entropy = -(logs.exp() * logs).sum(-1)
                (slope,) = torch.autograd.grad(-(gain + how.entropy * entropy).mean(), weights)
            self._adam(slope, how.lr)

    def _adam(self, slope: Tensor, lr: float) -> None:
        shelf, (b1, b2) = self.shelf, _BETAS
        if "count" not in shelf:
            shelf["count"] = torch.zeros((), dtype=torch.long)
            shelf["first"], shelf["second"] = torch.zeros_like(slope), torch.zeros_like(slope)
        shelf["count"] = shelf["count"] + 1
        shelf["first"] = b1 * shelf["first"] + (1 - b1) * slope
        shelf["second"] = b2 * shelf["second"] + (1 - b2) * slope.square()
        count = int(shelf["count"])
        first, second = shelf["first"] / (1 - b1**count), shelf["second"] / (1 - b2**count)
        shelf["weights"] = shelf["weights"] - lr * first / (second.sqrt() + _EPSILON)
