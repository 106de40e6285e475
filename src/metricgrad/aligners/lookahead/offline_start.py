"""AdaLFL's offline start (Algorithm 1): learn the loss on other models before the one that counts is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import AlignedLoss, OfflineStart
from metricgrad.aligners.isolation import device_of, kept_randomness
from metricgrad.aligners.isolation import seed as seeded
from metricgrad.aligners.validation_batches import EndlessBatches
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number, checked_whole
from metricgrad.progress import ProgressBar

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


def offline_start(
    loss: AlignedLoss, start: OfflineStart, looked_ahead: Callable[..., tuple[list[Tensor], float]], *, seed: int
) -> list[float]:
    """Run it.

    Args:
        loss: that learns.
        start: what it learns on.
        looked_ahead: takes steps of a model and returns the hypergradient and the objective's value; called as
            :meth:`metricgrad.aligners.lookahead.look_ahead.LookAhead.hypergradient`.
        seed: of models and the order of batches.

    Returns:
        The objective's value after each round.
    """
    make_model, make_optimizer, steps, inner, keep = (
        start.make_model, start.make_optimizer, start.steps, start.inner, start.keep,
    )  # fmt: skip
    for name, count in (("steps", steps), ("inner", inner), ("keep", keep)):
        checked_whole(name, count, least=1)
    checked_number("lr", start.lr)
    parameters = list(loss.form.parameters())
    twin = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(twin, lr=start.lr)
    values: list[float] = []
    with kept_randomness(torch.device("cpu")):
        device = device_of(list(make_model_at(make_model, seed, 0).parameters()))
    train = EndlessBatches(start.batches, torch.zeros(2, dtype=torch.long), seed, device)
    judged = (
        train
        if start.valid is None
        else EndlessBatches(start.valid, torch.zeros(2, dtype=torch.long), seed + 1, device)
    )
    counted, training, lost = loss.steps.clone(), loss.training, 0
    loss.train()
    with ProgressBar(steps, "offline start") as bar, kept_randomness(device):
        model, base = _made_at(make_model, make_optimizer, seed, 0)
        for number in range(steps):
            if number and number % keep == 0:
                model, base = _made_at(make_model, make_optimizer, seed, number)
            rounds = [train.draw() for _ in range(inner)]
            base.zero_grad()
            found, value = looked_ahead(model, base, rounds, judged.draw(), start.forward)
            values.append(value)
            bar.update(number + 1)
            if not all(bool(gradient.isfinite().all()) for gradient in found):
                lost += 1
                model, base = _made_at(make_model, make_optimizer, seed, number + 1)
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
            stacklevel=4,
        )
    return values


def make_model_at(make_model: Callable[[], nn.Module], start: int, number: int) -> nn.Module:
    """A fresh model whose weights follow from the seed and the round alone; the global state moves on from there."""
    seeded((start * 1_000_003 + number) % 2**32, torch.device("cpu"))
    model: object = make_model()
    if not isinstance(model, nn.Module):
        raise MetricgradError(f"make_model made a {type(model).__name__}; expected an nn.Module")
    return model


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
