"""What Policy and RandomWalk share: when validation data are evaluated, and how a knob is moved."""

from __future__ import annotations

import abc
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import Aligner, TrainingContext
from metricgrad.aligners.knobs.controller_state import ControllerState, SavedState
from metricgrad.aligners.knobs.evaluation import rows_held, scored_on_all, spread_rows
from metricgrad.aligners.knobs.observation import Observation, Scored, observed
from metricgrad.aligners.knobs.period_history import columns, note
from metricgrad.aligners.knobs.plot import plot_history
from metricgrad.aligners.knobs.policy_network import Choice
from metricgrad.aligners.knobs.schedule import Schedule
from metricgrad.aligners.knobs.settings import KnobSettings, Where, renamed
from metricgrad.aligners.knobs.state import ROLES, Child, roles_of
from metricgrad.aligners.knobs.stopwatch import Stopwatch
from metricgrad.aligners.validation_batches import checked_batches
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.direction import check_direction

_PATIENCE = 3


class KnobController(Aligner, abc.ABC):
    r"""Abstract: every K optimiser steps, evaluates validation data and moves each knob down, up or not at all.

    A move is ``step_size`` times half the knob's range. A period's metric is
    :math:`M = \sum_j \lambda^{L-1-j} M_j / \sum_j \lambda^{L-1-j}` over its last L steps, its improvement the
    difference to the period before, in the metric's direction.

    Args:
        metric: what validation is judged by: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        every: K, optimiser steps in a period. None: a hundredth of ``total_steps``, 20 to 200, 50 where they are not
            known; and so many, with fewer rows in an evaluation, that evaluating stays below a tenth of training
            (:mod:`metricgrad.aligners.knobs.schedule`).
        evaluations: L, how many of a period's last steps are measured. Each costs one pass over the validation rows.
        discount: :math:`\lambda`, from 0 to 1.
        step_size: of a move, in halves of a knob's range.
        warm_up: periods at the start in which nothing moves.
        clamp: whether moved knobs are brought back into what the form allows.
        rows: validation rows that are scored at most, always the same ones; None takes all.
        threshold: where the metric reads labels and there is one score for each item: ``"best"`` judges at the
            threshold that is best on the scored rows, among 32, as :func:`metricgrad.fit` does; ``"zero"`` at 0.
        seed: of everything random.

        looks: the former name of ``evaluations``, for one version.

    Attributes:
        settings: as they were given.
        state: how far training is.
        child: the memory of its validation, and the history.

    Raises:
        MetricgradError: for settings out of range.
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        *,
        every: int | None = None,
        evaluations: int = 1,
        discount: float = 0.9,
        step_size: float = 0.1,
        warm_up: int = 3,
        clamp: bool = True,
        rows: int | None = 1024,
        threshold: Where = "best",
        seed: int = 0,
        looks: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = KnobSettings(
            every, renamed(looks, "looks", evaluations, "evaluations"), discount, step_size, warm_up, clamp, rows,
            threshold, seed,
        )  # fmt: skip
        given = as_metric(metric)
        self.metric, self.class_targets = given.of_read_batches(), given.class_targets
        self.state, self.child, self.stopwatch = ControllerState(), Child(), Stopwatch()
        self._training: TrainingContext | None = None
        self._batches: list[Any] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def unattached(self) -> dict[str, Any]:
        """A copy goes on with the run as a loaded state does."""
        state = replace(self.state, resumed=self.state.resumed or self.state.steps > 0)
        return {"_training": None, "_batches": [], "_optimizer": None, "state": state}

    @property
    def periods(self) -> int:
        """How many have ended in this training."""
        return self.state.periods

    def schedule(self, total_steps: int | None) -> Schedule:
        """When it evaluates and moves in a training of so many steps."""
        return Schedule.of(
            self.settings, total_steps, batch=self.state.batch, held=self.state.held,
            quadratic=self.metric.layout.of_embeddings,
        )  # fmt: skip

    def refusal(self, form: Form) -> str | None:
        """It turns knobs, so there must be some."""
        names = list(form.knobs())
        if not names:
            return "it has no knobs to turn; Scaled(form) or Mix([form, another]) gives it some"
        if len(roles_of(names)) > ROLES:
            return f"its knobs have {len(roles_of(names))} roles, and a policy tells {ROLES} apart"
        return None

    # ---- during training

    def unattended(self) -> str | None:
        """Knobs that were never turned stay where they began."""
        if self.state.steps or self.state.periods:
            return None
        return (
            f"{type(self).__name__} turns the knobs of this loss, and nothing tells it how training goes: call "
            "loss.attach(model, optimizer, valid=batches) before the first step, or loss.observe(scores, targets) with "
            "validation scores as it goes"
        )

    def attached(self, training: TrainingContext) -> None:
        """Begin anew, unless it goes on: with the optimiser of before, or from a state that was loaded."""
        state = self.state
        ended = training.total_steps is not None and state.steps >= training.total_steps
        same = self._optimizer is training.optimizer and not ended
        if state.steps and not same and not state.resumed:
            self.restart()
        self._optimizer = training.optimizer
        state.held = None
        if training.valid is None:
            return
        checked_batches(training.valid, training.forward)
        state.held = training.loss.ranks.total(rows_held(training.valid))
        schedule = self.schedule(training.total_steps)
        if training.total_steps is not None and training.total_steps < schedule.first_move:
            warnings.warn(
                f"{type(self).__name__} first moves after {schedule.first_move} steps (warm_up={schedule.warm_up} "
                f"periods of {schedule.period}, and one more), and total_steps is {training.total_steps}: it moves "
                "nothing; take more steps, or a smaller every or warm_up (of a loss by name: ala:every=5,warm_up=0)",
                stacklevel=3,
            )

    def detached(self, training: TrainingContext) -> None:
        """The next training is another one."""
        self.state.resumed = False

    def restart(self) -> None:
        """Forget the run: counters, warm-up and history. What was learned stays, and the knobs stay where they are."""
        self.state.restart()
        self.child, self.stopwatch = Child(), Stopwatch()

    def on_loss_call(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], call: CallContext, value: Tensor
    ) -> None:
        """Note a training batch, for the history: of one with a mask what it keeps; none with other context."""
        self.state.batch = self.state.batch or len(scores)
        given = [name for name, part in context.items() if part is not None]
        mask = context.get("mask")
        if given == ["mask"] and mask is not None and scores.ndim > targets.ndim and mask.shape == targets.shape:
            scores, targets, given = scores[mask], targets[mask], []
        if not given:
            self.child.train_batches.add(scores, targets, value)

    def after_step(self, training: TrainingContext) -> None:
        """Count the step; in the last steps of a period score validation data, at its end move the knobs."""
        if not training.loss.training:
            return
        if training.valid is not None:
            self.stepped(training.total_steps, lambda rows: [self._scored(training, rows)])
            return
        self.stepped(training.total_steps, lambda rows: [])
        state = self.state
        if state.periods == 0 and state.steps == _PATIENCE * self.schedule(training.total_steps).period:
            warnings.warn(
                f"{type(self).__name__} has had no validation feedback in {state.steps} steps and moves nothing; "
                "pass valid= to attach, or call loss.observe(scores, targets)",
                stacklevel=2,
            )

    def stepped(self, total_steps: int | None, score: Callable[[int | None], Sequence[Scored]]) -> None:
        """Count a step, of one child or of a population; in a period's last steps evaluate, at its end move the knobs.

        Args:
            total_steps: in the training, where known.
            score: gives every child's scores of so many validation rows; called at evaluations only.
        """
        started = time.perf_counter()
        self.stopwatch.passed(started, spent=False)
        self.state.steps += 1
        schedule = self.schedule(total_steps)
        if schedule.due(self.state.steps):
            self.evaluate(score(schedule.rows), schedule.progress(self.state.steps))
            self.stopwatch.passed(started, spent=True)

    def observe(self, form: Form, scores: Tensor, targets: Tensor, progress: float | None) -> None:
        """One evaluation by hand; every ``evaluations``-th ends a period."""
        if progress is not None:
            progress = checked_number("progress", progress, zero=True, most=1)
        self.evaluate([Scored(self.child, form, scores, targets)], progress)

    def evaluate(self, scored: Sequence[Scored], progress: float | None) -> None:
        """One evaluation of every child; at the end of a period reward, choose, move and note."""
        state, seen = self.state, []
        if state.periods == 0 and scored:
            check_direction(self.metric, scored[0].scores, scored[0].targets)
        for one in scored:
            value, observation = observed(
                one, self.metric, self.settings, progress, periods=state.periods, batch=state.batch
            )
            self._warn_undefined(value)
            seen += [] if observation is None else [observation]
        if not seen:
            return
        state.periods += 1
        improvements = [one.improvement for one in seen if one.improvement is not None]
        rewards = advantages = [0.0] * len(seen)
        if len(improvements) == len(seen):
            rewards, advantages = self.reward(improvements)
        choices = self.move(seen, advantages) if state.periods > self.settings.warm_up else [None] * len(seen)
        for one, reward, advantage, choice in zip(seen, rewards, advantages, choices, strict=True):
            note(one, state.steps or state.periods, reward, advantage, choice)
            state.names = list(one.knobs)

    def _warn_undefined(self, value: float) -> None:
        """Say so when the metric is undefined time after time."""
        self.state.undefined = self.state.undefined + 1 if math.isnan(value) else 0
        if self.state.undefined == _PATIENCE:
            warnings.warn(
                f"{self.metric.name} was undefined on validation data {_PATIENCE} times in a row, which tells "
                f"{type(self).__name__} nothing; give it more rows, or rows of every class",
                stacklevel=2,
            )

    def reward(self, improvements: Sequence[float]) -> tuple[list[float], list[float]]:
        """Rewards and advantages of the children's improvements."""
        return list(improvements), list(improvements)

    @abc.abstractmethod
    def choose(
        self, seen: Sequence[Observation], advantages: Sequence[float], generator: torch.Generator
    ) -> list[Choice]:
        """Learn from the last moves' advantages, then choose an action for each knob of each child."""

    def move(self, seen: Sequence[Observation], advantages: Sequence[float]) -> list[Choice]:
        """Choose and move, for one child or several."""
        settings = self.settings
        generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + self.periods) % (2**63 - 1))
        choices = self.choose(seen, advantages, generator)
        for one, choice in zip(seen, choices, strict=True):
            with torch.no_grad():
                for knob, action in zip(one.knobs.values(), choice.actions.tolist(), strict=True):
                    knob.parameter.add_((action - 1) * settings.step_size * knob.unit)
            if settings.clamp:
                one.form.project()
            self.after_move(one, choice)
        return choices

    def after_move(self, seen: Observation, choice: Choice) -> None:
        """Note a move that now waits for its reward."""

    # ---- afterwards

    @property
    def history(self) -> dict[str, Any]:
        """One entry a period in each column: those of
        :data:`metricgrad.aligners.knobs.period_history.NOTED`, and ``knobs``, name -> values after the move.

        ``metric`` is the discounted validation metric, ``loss`` the form's value on the same rows before the move
        (knobs that move change it too), ``improvement`` the metric's change, ``entropy`` that of the actions in nats
        (log 3 where three are equally likely), ``largest`` the largest absolute value of a knob. ``train_metric`` is
        the metric on the period's last training batches, as many rows as an evaluation has and as the loss was called
        with them, and ``train_loss`` the loss's mean over the period; NaN where nothing of the kind was seen.
        """
        return self.history_of(self.child)

    def history_of(self, child: Child) -> dict[str, Any]:
        """The history of one child of a population."""
        return columns(child, self.state.names)

    def plot(self, path: str | Path, child: Child | None = None) -> Path:
        """The history as one PNG: see :func:`metricgrad.aligners.knobs.plot.plot_history`."""
        return plot_history(self.history_of(child or self.child), path, self.metric)

    def cost(self) -> dict[str, float]:
        """Seconds spent on validation and moves in this process, and their share of training up to its last step."""
        return {"seconds": self.stopwatch.spent, "share": self.stopwatch.share}

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        return {"metric": self.metric.spec, **self.settings.config()}

    def get_extra_state(self) -> dict[str, Any]:
        """Counters; tensors are in the children's memory."""
        return {**self.state.saved()}

    def set_extra_state(self, state: SavedState) -> None:
        """Restore the counters."""
        self.state.load(state)

    def _scored(self, training: TrainingContext, rows: int | None) -> Scored:
        """Validation scores of the model as it is, which is left as it is; those of all ranks, a share of each."""
        most, rows = map(training.loss.ranks.share, (self.settings.rows, rows))
        if training is not self._training:
            self._training, self._batches = training, spread_rows(training.valid or (), most, rows, training.forward)
        return Scored(self.child, training.loss.form, *scored_on_all(training, self._batches, most))
