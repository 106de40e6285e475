"""The policy: a network of two layers of 32 units, its replay of recent transitions, and REINFORCE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metricgrad.aligners.knobs.state import FEATURES, ROLES
from metricgrad.aligners.knobs.state_buffers import Renamed, Slot, StateBuffers

WIDTH = 32
ACTIONS = 3
_SHAPES = [(WIDTH, FEATURES), (WIDTH,), (WIDTH, WIDTH), (WIDTH,), (ROLES * ACTIONS, WIDTH), (ROLES * ACTIONS,)]
_SIZES = [math.prod(shape) for shape in _SHAPES]
_MOMENTS = ("first", "second")
_TRANSITION = ("states", "actions", "logs", "advantages")
LEARNED = ("weights", *_MOMENTS, "count")
"""What is learned, as against what is remembered."""

_MOMENT = Slot(torch.float32, (sum(_SIZES),), group="learned")
_SLOTS = {
    "weights": Slot(torch.float32, (sum(_SIZES),)),
    "first": _MOMENT,
    "second": _MOMENT,
    "count": Slot(torch.int64, group="learned"),
    "replay_states": Slot(torch.float32, ("transitions", FEATURES + ROLES), group="replay"),
    "replay_actions": Slot(torch.int64, ("transitions",), below=ACTIONS, group="replay"),
    "replay_logs": Slot(torch.float32, ("transitions",), group="replay"),
    "replay_advantages": Slot(torch.float32, ("transitions",), group="replay"),
}
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
        centred: whether the mean of the replay is taken off the advantages.
        capacity: transitions in the replay.
        updates: steps of Adam after each move.
        batch: transitions in a step.
    """

    lr: float
    entropy: float
    importance: bool
    centred: bool
    capacity: int
    updates: int
    batch: int


class PolicyNetwork(Renamed):
    """Maps the state of a knob to the probabilities of turning it down, leaving it, and turning it up.

    Knobs of one role share everything, so that a policy serves any number of classes. Each role has an output layer of
    its own: with a shared one, a knob that does nothing would follow one that helps, and nothing would stop it.

    Weights, Adam's moments and the replay are one :class:`StateBuffers`, so that a resumed run learns on as an
    undisturbed one would. The last layer starts at 0: every action is equally likely at first.
    """

    renamed: ClassVar[Mapping[str, str]] = {"shelf": "state"}

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.state = StateBuffers(_SLOTS)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for shape in _SHAPES[:4]:
            fan_in = shape[-1] if len(shape) == 2 else WIDTH
            parts.append((torch.rand(shape, generator=generator) * 2 - 1).flatten() / math.sqrt(fan_in))
        parts += [torch.zeros(math.prod(shape)) for shape in _SHAPES[4:]]
        self.state["weights"] = torch.cat(parts)

    def logs(self, states: Tensor) -> Tensor:
        """``(knobs, 3)`` log-probabilities of the actions, for states followed by the codes of the roles."""
        return _forward(states, _parts(self.state["weights"]))[-1]

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
            self.state.push("replay_" + name, rows, capacity)

    @torch.no_grad()
    def learn(self, how: Learning, generator: torch.Generator) -> None:
        """REINFORCE on transitions drawn from the replay."""
        state = self.state
        if "replay_actions" not in state:
            return
        replay = {name: state["replay_" + name] for name in _TRANSITION}
        stored = len(replay["actions"])
        if how.centred:
            # a running centre lags behind rewards that rise, and then whatever was done would be reinforced
            replay["advantages"] = replay["advantages"] - replay["advantages"].mean()
        flat = state["weights"].clone()
        first, second = (state[name].clone() if name in state else torch.zeros_like(flat) for name in _MOMENTS)
        count = int(state["count"]) if "count" in state else 0
        for _ in range(how.updates):
            count += 1
            some = torch.randint(stored, (min(how.batch, stored),), generator=generator)
            drawn = [replay[name][some] for name in _TRANSITION]
            slope = gradient(flat, *drawn, entropy=how.entropy, importance=how.importance)
            first.lerp_(slope, 1 - _BETAS[0])
            second.lerp_(slope.square(), 1 - _BETAS[1])
            deviation = (second / (1 - _BETAS[1] ** count)).sqrt_().add_(_EPSILON)
            flat.addcdiv_(first, deviation, value=-how.lr / (1 - _BETAS[0] ** count))
        state["weights"], state["count"] = flat, torch.tensor(count)
        state["first"], state["second"] = first, second


def gradient(
    flat: Tensor,
    states: Tensor,
    actions: Tensor,
    old: Tensor,
    advantages: Tensor,
    *,
    entropy: float,
    importance: bool,
) -> Tensor:
    r"""The gradient, in the flat weights, of minus the mean of :math:`w A \log\pi(a) + \alpha H(\pi)`, w held fixed.

    By hand: autograd's overhead would be most of the cost of a network this small.
    """
    parts = _parts(flat)
    one, two, logs = _forward(states, parts)
    taken = logs.gather(1, actions[:, None])
    gain = advantages[:, None]
    if importance:
        gain = gain * (taken - old[:, None]).exp().clamp(max=_MOST_WEIGHT)
    p = logs.exp()
    disorder = -(p * logs).sum(1, keepdim=True)
    chosen = torch.zeros_like(p).scatter_(1, actions[:, None], 1.0)
    slope = (entropy * p * (logs + disorder) - gain * (chosen - p)) / len(states)
    slope = (states[:, FEATURES:, None] * slope[:, None]).flatten(1)
    slopes = [slope.T @ two, slope.sum(0)]
    for weight, output, inside in ((parts[4], two, one), (parts[2], one, states[:, :FEATURES])):
        slope = (slope @ weight) * (output > 0)
        slopes = [slope.T @ inside, slope.sum(0), *slopes]
    return torch.cat([part.flatten() for part in slopes])


def _parts(flat: Tensor) -> list[Tensor]:
    return [part.view(shape) for part, shape in zip(flat.split(_SIZES), _SHAPES, strict=True)]


def _forward(states: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Both hidden layers, and the log-probabilities."""
    one = torch.addmm(parts[1], states[:, :FEATURES], parts[0].T).relu()
    two = torch.addmm(parts[3], one, parts[2].T).relu()
    every_role = torch.addmm(parts[5], two, parts[4].T).view(len(states), ROLES, ACTIONS)
    return one, two, (every_role * states[:, FEATURES:, None]).sum(1).log_softmax(-1)
