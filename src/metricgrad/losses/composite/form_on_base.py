"""A form around a base you know, which a file can name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.registry import Problem

BASES: dict[str, Problem] = {"task": "auto", "cross_entropy": "binary", "mse": "regression"}


class FormOnBase(Form):
    """Abstract: a form around a base, which is saved where it can be built again."""

    def __init__(self, base: str | nn.Module) -> None:
        super().__init__()
        if not (base in BASES if isinstance(base, str) else isinstance(base, nn.Module)):
            raise MetricgradError(
                f"base is {base!r}; expected {', '.join(map(repr, BASES))}, a form, or a module of scores and targets"
            )
        self._name = base if isinstance(base, str) else None
        if isinstance(base, str):
            self.base: Form | TaskLoss = TaskLoss(BASES[base])
            self.base.class_dim = -1  # forms are handed batches that were read
        else:
            module = base if isinstance(base, Form) else getattr(base, "form", base)  # a loss of ours has a form
            self.base = module if isinstance(module, Form) else HandMade(module)

    def based(self, scores: Tensor, targets: Tensor, call: CallContext, context: dict[str, Tensor | None]) -> Tensor:
        """The base's value."""
        if isinstance(self.base, TaskLoss):
            return self.base(scores, targets, **context)
        return self.base(scores, targets, call=call, **context)

    @property
    def problem(self) -> Problem:
        """The kind of problem, where the base says it."""
        if self._name is not None:
            return "auto" if self._name == "cross_entropy" else BASES[self._name]
        return getattr(self.base, "problem", "auto")

    def described_base(self) -> str | list[Any]:
        """What builds the base again.

        Raises:
            MetricgradError: for a hand-made module.
        """
        if self._name is not None:
            return self._name
        if not isinstance(self.base, Form) or isinstance(self.base, HandMade):
            name = type(getattr(self.base, "module", self.base)).__name__
            raise MetricgradError(
                f"a loss around a {name} cannot be saved: build it again and load its state_dict, or name the base: "
                f"{', '.join(BASES)}"
            )
        return [self.base.kind, self.base.config()]
