"""A user's training step run three ways: without the aligner, with it, and with one direction of the loss nudged."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.base import Form
from metricgrad.losses.networks.neural import NeuralLoss

Step = Callable[["Run"], None]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.3, momentum=0.9)


@dataclass
class Case:
    """One way to write a training loop.

    Attributes:
        step: takes one optimiser step.
        model: factory.
        optimizer: factory, of parameters.
        form: factory.
        prepare: called once, after the loss was attached.
        says: what is warned or raised in place of an update; None where the hypergradient is right.
        learns: what is warned at the first step, before it is known what to make of it.
        steps: how many are taken; the last one is looked at.
        options: of LookAhead.
    """

    step: Step
    model: Callable[[], nn.Module] = mlp
    optimizer: Callable[[Any], torch.optim.Optimizer] = sgd
    form: Callable[[], Form] = lambda: NeuralLoss(3)
    prepare: Callable[[Run], None] = lambda run: None
    says: str | None = None
    learns: str | None = None
    steps: int = 3
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """What a step may use."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Any
    number: int = 0
    memory: dict[str, Any] = field(default_factory=dict)

    def batch(self, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        return _batch(100 * self.number + number)

    def value(self, number: int = 0) -> torch.Tensor:
        x, y = self.batch(number)
        return self.loss(self.model(x), y)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())


def _batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    return x, (x[:, :3] + 0.5 * torch.randn(10, 3, generator=generator, dtype=torch.float64)).argmax(1)


VALID = _batch(9999)


def run(case: Case, *, attach: bool, nudge: list[torch.Tensor] | None = None) -> tuple[Run, float]:
    """Train; the objective after the last step, in whose loss the form is moved by ``nudge``."""
    torch.manual_seed(0)
    model = case.model().double()
    form = case.form().double()
    aligner = LookAhead(lr=0.0, **case.options) if attach else None
    here = Run(model, case.optimizer(model.parameters()), mg.Loss(form, aligner))
    if attach:
        here.loss.attach(model, here.optimizer, valid=[VALID])
    case.prepare(here)
    torch.manual_seed(1)
    for here.number in range(case.steps):
        if nudge is not None and here.number == case.steps - 1:
            with torch.no_grad():
                for p, along in zip(form.parameters(), nudge, strict=True):
                    p.add_(along)
        case.step(here)
    with torch.no_grad(), torch.random.fork_rng():
        state = copy.deepcopy(model.state_dict())
        objective = float(nn.functional.cross_entropy(model(VALID[0]), VALID[1]))
        model.load_state_dict(state)
    return here, objective


def directions(form: Form, count: int = 2) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [[torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in form.parameters()] for _ in range(count)]


def slope(case: Case, along: list[torch.Tensor], size: float = 3e-5) -> float:
    """Of the objective after the real step, by central differences of fourth order."""

    def at(shift: float) -> float:
        return run(case, attach=False, nudge=[shift * size * part for part in along])[1]

    return (8 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12 * size)


def check(case: Case) -> None:
    """The training is the user's own; the hypergradient is right, or one sentence says why there is none."""
    plain, _ = run(case, attach=False)
    random = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours, _ = run(case, attach=True)
    assert torch.equal(random, torch.get_rng_state())
    same(plain, ours)
    said = [text for w in caught if "LookAhead" in (text := str(w.message)) and "cannot use" not in text]
    aligner = ours.loss.aligner
    if case.says is not None:
        assert len(said) == 1, said
        assert case.says in said[0]
        assert aligner.last_hypergradient == []
        return
    assert len(said) == (case.learns is not None), said
    assert case.learns is None or case.learns in said[0]
    assert aligner.last_hypergradient
    assert any(bool(part.any()) for part in aligner.last_hypergradient)
    for along in directions(ours.loss.form):
        expected = slope(case, along)
        found = sum(float((a * b).sum()) for a, b in zip(aligner.last_hypergradient, along, strict=True))
        size = torch.cat([part.flatten() for part in aligner.last_hypergradient]).norm()
        assert abs(found - expected) <= 3e-6 * max(abs(expected), float(size)), (found, expected)


def same(a: Run, b: Run) -> None:
    """Parameters, buffers and the optimiser's state, to the last bit."""
    for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert type(x) is type(y)
        assert (x.grad is None) == (y.grad is None)
        assert x.grad is None or torch.equal(x.grad, y.grad)
    states = [[v for state in one.optimizer.state.values() for v in state.values()] for one in (a, b)]
    for x, y in zip(*states, strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
