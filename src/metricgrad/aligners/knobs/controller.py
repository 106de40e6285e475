"""What Policy and RandomWalk share: when they look at validation data, what they note, and how a knob is turned."""

from __future__ import annotations

import abc
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from metricgrad.aligners.base import Aligner, Scene
from metricgrad.aligners.knobs.evaluation import rows_held, scored, spread_rows
from metricgrad.aligners.knobs.observation import LookSettings, Seen, look
from metricgrad.aligners.knobs.plot import plot_history
from metricgrad.aligners.knobs.policy_network import Choice
from metricgrad.aligners.knobs.schedule import FEWEST, pace
from metricgrad.aligners.knobs.state import ROLES, Child, roles_of
from metricgrad.aligners.knobs.stopwatch import Stopwatch
from metricgrad.aligners.validation_batches import checked_batches
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Draw, Form
from metricgrad.losses.batches import checked_number, checked_whole
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric

NOTED = ("step", "progress", "metric", "loss", "improvement", "reward", "advantage", "entropy", "largest",
         "train_metric", "train_loss")  # fmt: skip
"""The columns of :attr:`KnobTurner.history` beside the knobs."""

Where = Literal["best", "zero"]

_PATIENCE = 3


class Counters(TypedDict):
    """The plain part of a turner's state."""

    ticks: int
    periods: int
    batch: int
    names: list[str]


class KnobTurner(Aligner, abc.ABC):
    r"""Abstract: every K optimiser steps, looks at validation data and moves each knob down, up or not at all.

    A move is ``step_size`` times half the knob's range. A period's metric is
    :math:`M = \sum_j \lambda^{L-1-j} M_j / \sum_j \lambda^{L-1-j}` over its last L steps, its improvement the
    difference to the period before, in the metric's direction.

    Args:
        metric: what validation is judged by: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        every: K, optimiser steps in a period. None: a hundredth of ``total_steps``, 20 to 200, 50 where they are not
            known; and so many, with fewer rows in a look, that looking stays below a tenth of training
            (:mod:`metricgrad.aligners.knobs.schedule`).
        looks: L, how many of a period's last steps are measured. Each costs one pass over the validation rows.
        discount: :math:`\lambda`, from 0 to 1.
        step_size: of a move, in halves of a knob's range.
        warm_up: periods at the start in which nothing moves.
        clamp: whether moved knobs are brought back into what the form allows.
        rows: validation rows that are scored at most, always the same ones; None takes all.
        threshold: where the metric reads labels and there is one score for each item: ``"best"`` judges at the
            threshold that is best on the scored rows, among 32, as :func:`metricgrad.fit` does; ``"zero"`` at 0.
        seed: of everything random.

    Attributes:
        resumed: whether a state was loaded, so that the next training is the rest of that run.

    Raises:
        MetricgradError: for settings out of range.
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        *,
        every: int | None = None,
        looks: int = 1,
        discount: float = 0.9,
        step_size: float = 0.1,
        warm_up: int = 3,
        clamp: bool = True,
        rows: int | None = 1024,
        threshold: Where = "best",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if threshold not in ("best", "zero"):
            raise MetricgradError(f"threshold is {threshold!r}; expected 'best' or 'zero'")
        for name, value, least in (
            ("every", every, 1), ("rows", rows, 1), ("looks", looks, 1), ("warm_up", warm_up, 0), ("seed", seed, None),
        ):  # fmt: skip
            if value is not None or name not in ("every", "rows"):
                checked_whole(name, value, least=least)
        if every is not None and looks > every:
            raise MetricgradError(f"looks is {looks} in a period of every={every} steps; it cannot be more")
        checked_number("discount", discount, most=1)
        checked_number("step_size", step_size)
        self.metric = as_metric(metric)
        self.every, self.looks, self.discount, self.step_size = every, looks, discount, step_size
        self.warm_up, self.clamp, self.rows, self.seed = warm_up, clamp, rows, seed
        self.threshold: Where = threshold
        self.child = Child()
        self.ticks, self.periods, self.batch = 0, 0, 0
        self._names: list[str] = []
        self._scene: Scene | None = None
        self._batches: list[Any] = []
        self._optimizer: torch.optim.Optimizer | None = None
        self.resumed = False
        self.watch = Stopwatch()
        self.held: int | None = None
        self._undefined = 0

    def unattached(self) -> dict[str, Any]:
        """A copy goes on with the run as a loaded state does."""
        return {"_scene": None, "_batches": [], "_optimizer": None, "resumed": self.resumed or self.ticks > 0}

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
        if self.ticks or self.periods:
            return None
        return (
            f"{type(self).__name__} turns the knobs of this loss, and nothing tells it how training goes: call "
            "loss.attach(model, optimizer, valid=batches) before the first step, or loss.observe(scores, targets) with "
            "validation scores as it goes"
        )

    def attached(self, scene: Scene) -> None:
        """Begin anew, unless it goes on: with the optimiser of before, or from a state that was loaded."""
        ended = scene.total_steps is not None and self.ticks >= scene.total_steps
        same = self._optimizer is scene.optimizer and not ended
        if self.ticks and not same and not self.resumed:
            self.restart()
        self._optimizer = scene.optimizer
        self.held = None
        if scene.valid is None:
            return
        checked_batches(scene.valid, scene.forward)
        self.held = rows_held(scene.valid)
        period = self.pace(scene.total_steps)[0]
        needed = (self.warm_up + 1) * period
        if scene.total_steps is not None and scene.total_steps < needed:
            warnings.warn(
                f"{type(self).__name__} first moves after {needed} steps (warm_up={self.warm_up} periods of {period}, "
                f"and one more), and total_steps is {scene.total_steps}: it will move nothing; set a smaller every or "
                "warm_up",
                stacklevel=3,
            )

    def detached(self, scene: Scene) -> None:
        """The next training is another one."""
        self.resumed = False

    def restart(self) -> None:
        """Forget the run: counters, warm-up and history. What was learned stays, and the knobs stay where they are."""
        self.ticks, self.periods, self.batch = 0, 0, 0
        self.child = Child()
        self.watch = Stopwatch()

    def saw(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], draw: Draw, value: Tensor
    ) -> None:
        """Note a training batch, for the history; not one with a mask or other context, which the looks know not of."""
        self.batch = self.batch or len(scores)
        if all(part is None for part in context.values()):
            self.child.recent.add(scores, targets, value)

    def after_step(self, scene: Scene) -> None:
        """Count the step; in the last steps of a period score validation data, at its end move the knobs."""
        if not scene.loss.training:
            return
        started = time.perf_counter()
        self.watch.passed(started, looked=False)
        self.ticks += 1
        if not self.due(scene.total_steps):
            return
        if scene.valid is None:
            if self.periods == 0 and self.ticks == _PATIENCE * self.pace(scene.total_steps)[0]:
                warnings.warn(
                    f"{type(self).__name__} has had no validation feedback in {self.ticks} steps and moves nothing; "
                    "pass valid= to attach, or call loss.observe(scores, targets)",
                    stacklevel=2,
                )
            return
        progress = None if not scene.total_steps else min(1.0, self.ticks / scene.total_steps)
        self.observe(scene.loss.form, *self._score(scene), progress)
        self.watch.passed(started, looked=True)

    def look(self, child: Child, form: Form, scores: Tensor, targets: Tensor, progress: float | None) -> Seen | None:
        """Measure a child once; at the end of a period, what was seen in it."""
        how = LookSettings(self.metric, self.threshold == "best", self.looks, self.discount)
        value, seen = look(how, child, form, scores, targets, progress, periods=self.periods, batch=self.batch)
        self._heard(value)
        return seen

    def _heard(self, value: float) -> None:
        """Say so when the metric is undefined time after time."""
        self._undefined = self._undefined + 1 if math.isnan(value) else 0
        if self._undefined == _PATIENCE:
            warnings.warn(
                f"{self.metric.name} was undefined on validation data {_PATIENCE} times in a row, which tells "
                f"{type(self).__name__} nothing; give it more rows, or rows of every class",
                stacklevel=2,
            )

    def observe(self, form: Form, scores: Tensor, targets: Tensor, progress: float | None) -> None:
        """One look at validation scores; every ``looks``-th ends a period."""
        if progress is not None:
            progress = checked_number("progress", progress, zero=True, most=1)
        seen = self.look(self.child, form, scores, targets, progress)
        self.decide([] if seen is None else [seen])

    def decide(self, seen: Sequence[Seen]) -> None:
        """At the end of a period reward, choose, move and note, for one child or a population under this aligner."""
        if not seen:
            return
        self.periods += 1
        improvements = [one.improvement for one in seen if one.improvement is not None]
        rewards = advantages = [0.0] * len(seen)
        if len(improvements) == len(seen):
            rewards, advantages = self.reward(improvements)
        choices = self.turn(seen, advantages, moving=self.periods > self.warm_up)
        for one, reward, advantage, choice in zip(seen, rewards, advantages, choices, strict=True):
            self.note(one, reward, advantage, choice)

    def reward(self, improvements: Sequence[float]) -> tuple[list[float], list[float]]:
        """Rewards and advantages of the children's improvements."""
        return list(improvements), list(improvements)

    @abc.abstractmethod
    def choose(self, seen: Sequence[Seen], advantages: Sequence[float], generator: torch.Generator) -> list[Choice]:
        """Learn from the last moves' advantages, then choose an action for each knob of each child."""

    def turn(self, seen: Sequence[Seen], advantages: Sequence[float], *, moving: bool) -> list[Choice | None]:
        """Choose and move, for one child or several."""
        if not moving:
            return [None] * len(seen)
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.periods) % (2**63 - 1))
        choices = self.choose(seen, advantages, generator)
        for one, choice in zip(seen, choices, strict=True):
            with torch.no_grad():
                for knob, action in zip(one.knobs.values(), choice.actions.tolist(), strict=True):
                    knob.parameter.add_((action - 1) * self.step_size * knob.unit)
            if self.clamp:
                one.form.project()
            self.after_move(one, choice)
        return list(choices)

    def after_move(self, seen: Seen, choice: Choice) -> None:
        """Note a move that now waits for its reward."""

    def note(self, seen: Seen, reward: float, advantage: float, choice: Choice | None) -> None:
        """Add a period to the history."""
        values = [float(knob.parameter) for knob in seen.form.knobs().values()]
        memory = seen.child.memory
        entropy = math.log(3) if choice is None else choice.entropy
        looked = [float(memory[name][-1]) for name in ("metric", "loss")]
        earned = [seen.improvement or 0.0, reward, advantage, entropy, max(map(abs, values)), *memory["train"].tolist()]
        row = [float(self.ticks or self.periods), seen.progress, *looked, *earned, *values]
        self._names = list(seen.knobs)
        memory.push("history", torch.tensor([row], dtype=torch.float64), 2**31)

    # ---- afterwards

    @property
    def history(self) -> dict[str, Any]:
        """One entry a period in each column: those of :data:`NOTED`, and ``knobs``, name -> values after the move.

        ``metric`` is the discounted validation metric, ``loss`` the form's value on the same rows before the move
        (knobs that move change it too), ``improvement`` the metric's change, ``entropy`` that of the actions in nats
        (log 3 where three are equally likely), ``largest`` the largest absolute value of a knob. ``train_metric`` is
        the metric on the period's last training batches, as many rows as a look has and as the loss was called with
        them, and ``train_loss`` the loss's mean over the period; NaN where nothing of the kind was seen.
        """
        return self.history_of(self.child)

    def history_of(self, child: Child) -> dict[str, Any]:
        """The history of one child of a population."""
        rows = child.memory["history"].T.tolist() if "history" in child.memory else []
        if rows and len(rows) != len(NOTED) + len(self._names):
            raise MetricgradError(
                f"the history has {len(rows)} columns, which are not those of {len(self._names)} knobs"
            )
        columns: dict[str, Any] = dict(zip(NOTED, rows, strict=False)) if rows else {name: [] for name in NOTED}
        columns["knobs"] = dict(zip(self._names, rows[len(NOTED) :], strict=True)) if rows else {}
        return columns

    def plot(self, path: str | Path, child: Child | None = None) -> Path:
        """The history as one PNG: see :func:`metricgrad.aligners.knobs.plot.plot_history`."""
        return plot_history(self.history_of(child or self.child), path, self.metric)

    def cost(self) -> dict[str, float]:
        """Seconds spent on validation and moves in this process, and their share of training up to its last step."""
        return {"seconds": self.watch.spent, "share": self.watch.share}

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        names = ("every", "looks", "discount", "step_size", "warm_up", "clamp", "rows", "threshold", "seed")
        return {"metric": self.metric.spec, **{name: getattr(self, name) for name in names}}

    def get_extra_state(self) -> dict[str, Any]:
        """Counters; tensors are in the children's memory."""
        return {"ticks": self.ticks, "periods": self.periods, "batch": self.batch, "names": list(self._names)}

    def set_extra_state(self, state: Counters) -> None:
        """Restore the counters."""
        self.ticks, self.periods, self.batch = state["ticks"], state["periods"], state["batch"]
        self._names = list(state["names"])
        self.resumed = True

    # ---- looking

    def due(self, total_steps: int | None) -> bool:
        """Whether the step just counted is one of a period's last, which are measured."""
        return -self.ticks % self.pace(total_steps)[0] < self.looks

    def pace(self, total_steps: int | None) -> tuple[int, int | None]:
        """Steps in a period, and rows in a look."""
        if self.every is not None:
            return self.every, self.rows
        rows = self.rows if self.rows is None or self.held is None else max(1, min(self.rows, self.held))
        if rows is not None and self.metric.layout.of_embeddings:  # it compares all rows with all
            rows = min(rows, FEWEST)
        return pace(total_steps, self.batch, rows, self.looks)

    def _score(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Validation scores and targets of the model as it is, which is left as it is."""
        if scene is not self._scene:
            rows = self.pace(scene.total_steps)[1]
            self._scene, self._batches = scene, spread_rows(scene.valid or (), self.rows, rows, scene.forward)
        return scored(scene.model, scene.forward, self._batches, self.rows)
