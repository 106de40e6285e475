"""What an aligner is: the right half of the grid, which moves a loss form so that it agrees with the metric.

The moments there are: when the loss is made (``bind``), before training (``prepare``, ``offline_start``), when training
begins and ends (``attached``, ``detached``), around a call of the loss in training (``before_loss_call``,
``on_loss_call``, ``on_loss_share``), around an optimiser step (``before_step`` and ``after_step``, called from the
hooks of :mod:`metricgrad.aligners.step_hooks`), and when validation scores come by hand (``observe``). An aligner
overrides the moments it lives in.
"""

from __future__ import annotations

import abc
import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from metricgrad.abstract import Abstract
from metricgrad.distributed import Ranks
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.class_reading import ClassReading
from metricgrad.metrics.layouts.class_targets import ClassTargets

Forward = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]


class AlignedLoss(Protocol):
    """What an aligner needs of the loss that it moves; :class:`metricgrad.Loss` is one."""

    form: Form
    classes: ClassReading
    ranks: Ranks
    seed: int
    steps: Tensor
    training: bool

    def train(self, mode: bool = True) -> Any:
        """Calls count as steps from here on, or do not."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Of the form and the aligner."""
        ...

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Of the form and the aligner, and the step counter."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Of all of these."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take it from another."""
        ...

    def description(self) -> dict[str, Any]:
        """What it is of."""
        ...

    def __call__(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The 0-d loss of one batch."""
        ...


@dataclass(frozen=True)
class TrainingContext:
    """What an aligner sees of the training it is attached to.

    Attributes:
        loss: the loss it aligns.
        model: the user's model.
        optimizer: the user's optimiser.
        valid: validation batches, or None.
        forward: maps (model, batch) to (scores, targets).
        total_steps: how many optimiser steps there will be, where known.
    """

    loss: AlignedLoss
    model: nn.Module
    optimizer: torch.optim.Optimizer
    valid: Iterable[Any] | None
    forward: Forward
    total_steps: int | None

    def scored(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Scores and targets of a batch, as the loss's parts take them: a :data:`Forward`."""
        return self.loss.classes.pair(*self.forward(model, batch))


@dataclass(frozen=True)
class OfflineStart:
    """What :meth:`metricgrad.Loss.offline_start` was called with, where each argument is described."""

    make_model: Callable[[], nn.Module]
    make_optimizer: Callable[[Any], torch.optim.Optimizer]
    batches: Iterable[Any]
    steps: int
    inner: int
    keep: int
    lr: float
    valid: Iterable[Any] | None
    forward: Forward


class Aligner(nn.Module, Abstract):
    """Abstract: moves the parameters or the knobs of a form."""

    #: Written into a saved loss; :data:`metricgrad.grid.ALIGNERS` maps it back to the class.
    kind: ClassVar[str]

    #: How the metric it has reads batches; :class:`metricgrad.Loss` then does it for all its parts.
    class_targets: ClassTargets | None = None

    #: Whether validation batches that come with a training steer it.
    reads_valid: ClassVar[bool] = True

    #: Whether ``fit`` should hand over validation batches like those of training rather than large ones in order.
    valid_like_train: ClassVar[bool] = False

    #: The validation batch given to :meth:`metricgrad.Loss.step` for this very step; goes before the attachment's.
    given: Any = None

    def unattached(self) -> dict[str, Any]:
        """The attributes that hold a part of the training it is attached to, as they are without one."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy is attached to nothing."""
        return {**self.__dict__, "given": None, **self.unattached()}

    @contextlib.contextmanager
    def judged_on(self, batch: Any) -> Generator[None]:
        """Inside, steps are judged on this validation batch, where it is not None."""
        self.given = batch
        try:
            yield
        finally:
            self.given = None

    @abc.abstractmethod
    def refusal(self, form: Form) -> str | None:
        """Why this cell of the grid means nothing, or None where it does mean something."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able keyword arguments that build this aligner again."""

    def bind(self, loss: AlignedLoss) -> None:
        """Called once, when the loss is made of its form and this aligner."""

    def needs_attachment(self) -> str | None:
        """Why it cannot act around a single step of :meth:`metricgrad.Loss.step`, or None where it can."""
        return None

    def attached(self, training: TrainingContext) -> None:
        """Called when the loss is attached to a training."""

    def detached(self, training: TrainingContext) -> None:
        """Called when that attachment ends."""

    def before_loss_call(self, form: Form) -> dict[Form, Any] | None:
        """Called right before each call of the loss that counts as a step; gives its :attr:`CallContext.notes`."""
        return None

    def unattended(self) -> str | None:
        """What to say of a training in which nothing moves the loss, or None where that is as it should be."""
        return None

    def on_loss_call(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], call: CallContext, value: Tensor
    ) -> None:
        """Called after each call of the loss that counts as a step; all tensors are the user's own."""

    def on_loss_share(self, share: float) -> None:
        """Called where the value of the last call is multiplied by a constant, its share of a step's items."""

    def prepare(self, form: Form, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> None:
        """Fit the form before training, from stored scores and targets, and what belongs together among them.

        Warns:
            UserWarning: where the aligner fits nothing before training.
        """
        warnings.warn(
            f"{type(self).__name__} fits nothing before training: prepare() leaves the loss as it is, and its scores "
            "and targets are not used; a loss that is fitted to them is Loss(form, RankCorrelation(metric))",
            stacklevel=3,
        )

    def offline_start(self, loss: AlignedLoss, start: OfflineStart) -> list[float]:
        """Learn the loss on other models before training; returns the objective after each round.

        Raises:
            MetricgradError: unless the aligner overrides it.
        """
        raise MetricgradError(
            f"{type(self).__name__} has no offline start; make the loss with LookAhead: Loss(form, LookAhead())"
        )

    def before_step(self, training: TrainingContext) -> None:
        """Called right before each optimiser step."""

    def after_step(self, training: TrainingContext) -> None:
        """Called right after each optimiser step."""

    def observe(self, form: Form, scores: Tensor, targets: Tensor, progress: float | None) -> None:
        """Validation feedback given by hand."""


def default_forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The usual ``forward``: a batch is (inputs, targets), the model's output is the scores.

    Raises:
        MetricgradError: for another kind of batch, and where the model does not take the inputs of this one, as two
            tensors in a tuple.
    """
    if not isinstance(batch, tuple | list) or len(cast("list[Any]", batch)) != 2:
        kind = type(cast("object", batch)).__name__
        raise MetricgradError(
            f"a batch of type {kind} is no (inputs, targets) pair; pass forward=lambda model, batch: (scores, targets)"
        )
    inputs, targets = cast("list[Any]", batch)
    try:
        return model(inputs), targets
    except TypeError as error:
        if isinstance(inputs, Tensor):
            raise
        raise MetricgradError(
            f"a batch's inputs are a {type(inputs).__name__}, which {type(model).__name__} does not take as one "
            f"argument ({error}); pass forward=lambda model, batch: (scores, targets), such as "
            "(model(*batch[0]), batch[1])"
        ) from error


def check_cell(form: Any, aligner: Any) -> None:
    """Refuse what is no cell of the grid, or one that means nothing.

    Raises:
        MetricgradError: for anything but a form and an aligner, and where the aligner refuses the form.
    """
    if not isinstance(form, Form) or not isinstance(aligner, Aligner):
        raise MetricgradError(
            f"Loss takes a form and an aligner, got {type(form).__name__} and {type(aligner).__name__}; "
            "a plain module becomes a form with metricgrad.losses.composite.hand_made.HandMade(module)"
        )
    reason = aligner.refusal(form)
    if reason is not None:
        raise MetricgradError(f"{type(form).__name__} x {type(aligner).__name__} means nothing: {reason}")
