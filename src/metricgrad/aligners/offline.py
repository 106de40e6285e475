"""AdaLFL's offline start (Algorithm 1): learn the loss on other models before the one that counts is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.bar import FitBar
from metricgrad.aligners.base import Forward
from metricgrad.aligners.feedback import Feedback
from metricgrad.aligners.forward_mode import Pusher
from metricgrad.aligners.isolation import device_of, kept_randomness, seed
from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    from metricgrad.aligners.look_ahead import LookAhead
    from metricgrad.loss import Loss

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


def offline_start(
    aligner: LookAhead,
    loss: Loss,
    make_model: Callable[[], nn.Module],
    make_optimizer: MakeOptimizer,
    batches: Iterable[Any],
    *,
    steps: int,
    inner: int,
    keep: int,
    lr: float,
    valid: Iterable[Any] | None,
    forward: Forward,
) -> list[float]:
    """Run it; see :meth:`metricgrad.Loss.offline_start`. Returns the objective's value after each round."""
    if min(steps, inner, keep) < 1:
        raise MetricgradError(f"steps, inner and keep are {steps}, {inner} and {keep}; expected 1 or more")
    parameters = list(loss.form.parameters())
    twin = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(twin, lr=lr)
    values: list[float] = []
    with kept_randomness(torch.device("cpu")):
        device = device_of(list(make_model_at(make_model, aligner.seed, 0).parameters()))
    train = Feedback(batches, torch.zeros(2, dtype=torch.long), aligner.seed, device)
    judged = train if valid is None else Feedback(valid, torch.zeros(2, dtype=torch.long), aligner.seed + 1, device)
    pusher, counted, training, lost = Pusher(aligner.exact), loss.steps.clone(), loss.training, 0
    loss.train()
    with FitBar(steps, "offline start") as bar, kept_randomness(device):
        model, base = _made_at(make_model, make_optimizer, aligner.seed, 0)
        for number in range(steps):
            if number and number % keep == 0:
                model, base = _made_at(make_model, make_optimizer, aligner.seed, number)
            rounds = [train.draw() for _ in range(inner)]
            base.zero_grad()
            found, value = aligner.looked_ahead(model, base, rounds, judged.draw(), forward, pusher)
            values.append(value)
            bar.update(number + 1)
            if not all(bool(gradient.isfinite().all()) for gradient in found):
                lost += 1
                model, base = _made_at(make_model, make_optimizer, aligner.seed, number + 1)
                continue
            for own, gradient in zip(twin, found, strict=True):
                own.grad = gradient.to(own)
            optimizer.step()
            with torch.no_grad():
                for parameter, own in zip(parameters, twin, strict=True):
                    parameter.copy_(own)
    loss.steps.copy_(counted)
    loss.train(training)
    if lost:
        warnings.warn(
            f"{lost} of {steps} rounds of the offline start taught nothing, because the model diverged; lower its "
            "learning rate, or keep",
            stacklevel=3,
        )
    return values


def make_model_at(make_model: Callable[[], nn.Module], start: int, number: int) -> nn.Module:
    """A fresh model whose weights follow from the seed and the round alone; the global state moves on from there."""
    seed((start * 1_000_003 + number) % 2**32, torch.device("cpu"))
    return make_model()


def _made_at(
    make_model: Callable[[], nn.Module], make_optimizer: MakeOptimizer, start: int, number: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = make_model_at(make_model, start, number)
    return model, made(make_optimizer, model)


def made(make_optimizer: MakeOptimizer, model: nn.Module) -> torch.optim.Optimizer:
    """An optimiser from a factory of the model's parameters, or of the model."""
    return make_optimizer(_Parameters(model))


class _Parameters(list[Tensor]):
    """A model's parameters, which answer ``parameters()`` and ``named_parameters()`` too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters())
        self.parameters = model.parameters
        self.named_parameters = model.named_parameters
