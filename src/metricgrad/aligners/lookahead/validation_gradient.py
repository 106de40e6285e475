"""The objective that a step should have lowered, and its gradient at the stepped parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import TrainingContext
from metricgrad.aligners.isolation import parameter_places, standing
from metricgrad.aligners.lookahead.outer_products import LinearTaps, OuterProducts, joined
from metricgrad.aligners.lookahead.recorded_calls import LossCall, outputs_of
from metricgrad.distributed import Ranks
from metricgrad.distributed import apart as nothing_gathered
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.calling import called

_NAMES = ("task", "cross_entropy", "mse")

TrainingObjective = str | nn.Module | Callable[[Tensor, Tensor], Tensor]


class Objective:
    """What an optimiser step should lower.

    Args:
        loss: as in :class:`metricgrad.aligners.lookahead.look_ahead.LookAhead`.

    Raises:
        MetricgradError: for another name, or what cannot be called.
    """

    def __init__(self, loss: TrainingObjective) -> None:
        if not (loss in _NAMES if isinstance(loss, str) else callable(loss)):
            raise MetricgradError(
                f"objective is {loss!r}; expected 'task', 'cross_entropy', 'mse', or a differentiable loss of "
                "scores and targets"
            )
        self._named = loss if isinstance(loss, str) else None
        self._loss: Callable[..., Tensor] = TaskLoss() if isinstance(loss, str) else loss
        if isinstance(self._loss, TaskLoss):
            self._loss.class_dim = -1  # it is handed batches that were read
        if hasattr(loss, "progress"):  # what a loss becomes at the end of training, not what it begins with
            setattr(loss, "progress", 1.0)  # noqa: B010  (an attribute of our losses only)

    def bind(self, form: Form) -> None:
        """A named one is that of the form's kind of problem."""
        if isinstance(self._loss, TaskLoss) and self._named is not None:
            kinds = {"cross_entropy": "binary", "mse": "regression", "task": getattr(form, "problem", "auto")}
            self._loss.kind = kinds[self._named]

    def described(self) -> Any:
        """Its name, or what a loss of ours says of itself, for a file.

        Raises:
            MetricgradError: for a foreign module or function.
        """
        found = self._named or getattr(self._loss, "described", None)
        if found is None:
            raise MetricgradError(
                f"a LookAhead toward a {type(self._loss).__name__} cannot be saved; build it again and load its "
                "state_dict"
            )
        return found if isinstance(found, str) else found()

    def __call__(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d, minimised."""
        return called(self._loss, scores, targets, context)


def on_validation_batch(
    objective: Objective, training: TrainingContext, parameters: list[Tensor], batch: object, *, apart: bool
) -> tuple[Tensor, dict[Tensor, Tensor | OuterProducts]]:
    """Value, 0-d, and gradient on a validation batch.

    Args:
        objective: of scores and targets.
        training: whose model and forward pass they come from.
        parameters: in which the gradient is.
        batch: as the forward pass takes it.
        apart: whether the gradient of linear layers' weights is left as outer products.
    """
    loss, taps = training.loss, LinearTaps(training.model if apart else None)
    # a user's hooks on gradients are no part of the objective's
    bare = {p: p.detach().requires_grad_() for p in parameters if p._backward_hooks}
    with standing(parameter_places(training.model, bare)):
        with taps:
            scores, targets, _ = loss.ranks.joined(loss, lambda: (*training.scored(training.model, batch), {}))
        with nothing_gathered():
            value = objective(scores, targets)
    if not value.requires_grad:
        return value, {}
    with taps.collecting():
        gradients = torch.autograd.grad(value, [bare.get(p, p) for p in parameters], allow_unused=True)
    return value.detach(), joined(parameters, _averaged(loss.ranks, parameters, gradients), taps.found())


def on_training_batch(
    objective: Objective, training: TrainingContext, last: LossCall, parameters: list[Tensor]
) -> tuple[Tensor, dict[Tensor, Tensor | OuterProducts]]:
    """Value, 0-d, and gradient on the batch of the last call of the loss, where there is no validation batch.

    Raises:
        MetricgradError: for scores that are no affine function of the model's outputs.
    """
    outputs: list[Tensor] = []
    scores = last.scores
    shifts: list[list[Tensor]] = []
    for call, head in last.heads:
        if not head.is_affine(call.outputs):
            raise MetricgradError(
                "without validation batches the training batch serves, which needs scores that are the model's "
                "output up to slices, reshapes and scales; pass valid= to attach, or valid_batch= to step"
            )
        again = outputs_of(call.module(*call.args, **call.kwargs))
        shift = [(new - old).detach().requires_grad_() for new, old in zip(again, call.outputs, strict=True)]
        pushed = head.jvp(shift, create_graph=True)
        # other ranks' rows move too: the value is of all, the gradient this rank's, times their number
        scores = scores + (pushed + (training.loss.ranks.mean([pushed])[0] - pushed.detach()))
        outputs += again
        shifts.append(shift)
    with nothing_gathered():
        value = objective(scores, last.targets, **last.context)
    flat = [part for shift in shifts for part in shift]
    back = torch.autograd.grad(value, flat, allow_unused=True)
    live = [(o, b) for o, b in zip(outputs, back, strict=True) if b is not None and o.requires_grad]
    gradients = torch.autograd.grad([o for o, _ in live], parameters, [b for _, b in live], allow_unused=True)
    return value.detach(), joined(parameters, _averaged(training.loss.ranks, parameters, gradients), {})


def _averaged(
    ranks: Ranks, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """Gradients of joined scores, averaged over ranks as DDP averages those of training."""
    if ranks.count == 1:
        return gradients
    return ranks.mean(torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True))
