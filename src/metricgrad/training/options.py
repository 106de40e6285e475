"""What ``fit`` and ``fit_population`` read of their options in the same way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.baselines.base import ClassLoss
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.metric import Metric
from metricgrad.systems.by_name import make_loss
from metricgrad.training.delivery import Asked, check_decision, describe_decision
from metricgrad.training.run_folder import fingerprints

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whether alone or beside others; see :func:`metricgrad.fit`.

    Raises:
        MetricgradError: for options out of range.
    """

    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    optimizer: Optimizer | None
    patience: int | None
    decision: Asked
    per_class: int | None
    seed: int

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "patience", "per_class")
        check_counts(**{name: getattr(self, name) for name in counts})
        checked_number("lr", self.lr)
        checked_number("weight_decay", self.weight_decay, zero=True)
        check_decision(self.decision)

    def make_optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW, unless another one was given."""
        if self.optimizer is not None:
            return self.optimizer(params)
        return torch.optim.AdamW(params, lr=self.lr, weight_decay=self.weight_decay)

    def config(self) -> dict[str, Any]:
        """What a folder says of it, JSON-able."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        optimizer = self.optimizer and fingerprints.describe(self.optimizer)
        return {**found, "optimizer": optimizer, "decision": describe_decision(self.decision)}


def as_loss(loss: str | nn.Module | Callable[[], nn.Module], metric: Metric, seed: int) -> nn.Module:
    """A loss from its name, from a factory, or as it is.

    Raises:
        MetricgradError: for anything else.
    """
    made: Any = loss
    if isinstance(loss, str):
        made = make_loss(loss, metric, seed=seed)
    elif not isinstance(loss, nn.Module) and callable(loss):
        made = made_by(loss, "loss")
    if not isinstance(made, nn.Module):
        raise MetricgradError(
            f"loss must be a name, an nn.Module or a zero-argument factory of one, not {type(loss).__name__}"
        )
    classes = metric.class_targets
    if isinstance(made, Loss):
        made.classes.tell(class_dim=classes.class_dim, ignore_index=classes.ignore_index)
    elif isinstance(made, ClassLoss):
        made.class_dim = made.class_dim or classes.class_dim
    return made


def no_module(model: object) -> str:
    """What was given where a module is wanted, and what to give."""
    if isinstance(model, type):
        return f"the class {model.__name__}; give a module made of it: {model.__name__}(...)"
    if callable(model):
        return f"a {type(model).__name__}; give the module that it makes: call it"
    return f"a {type(model).__name__}; give an nn.Module"


def made_by(factory: Callable[[], Any], what: str) -> nn.Module:
    """The module that a zero-argument factory makes.

    Raises:
        MetricgradError: where it takes arguments, or makes anything else.
    """
    if not takes_nothing(factory):
        name = getattr(factory, "__name__", type(factory).__name__)
        raise MetricgradError(
            f"{what} is {name}, which takes arguments; give a factory that takes none and makes an nn.Module"
            + (f": lambda: {name}(...)" if isinstance(factory, type) else "")
        )
    made: object = factory()
    if not isinstance(made, nn.Module):
        raise MetricgradError(f"{what} made a {type(made).__name__}; expected an nn.Module")
    return made


def takes_nothing(factory: Callable[..., Any]) -> bool:
    """Whether it can be called without arguments, as far as its signature says."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


@contextmanager
def unchecked(*modules: nn.Module) -> Generator[None]:
    """Losses let non-finite scores through: training looks itself, and names the learning rate."""
    parts = [part for module in modules for part in module.modules() if hasattr(part, "check_finite")]
    before = [(part, getattr(part, "check_finite")) for part in parts]  # noqa: B009
    try:
        for part, _ in before:
            setattr(part, "check_finite", False)  # noqa: B010  (an attribute of some modules only)
        yield
    finally:
        for part, value in before:
            setattr(part, "check_finite", value)  # noqa: B010


def check_counts(**values: object) -> None:
    """Refuse what is no whole number above 0, where it is not None."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise MetricgradError(f"{name} is {value!r}; expected a whole number above 0")
