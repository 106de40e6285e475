"""``fit_population``: several child networks trained at once under one policy."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from metricgrad.aligners.policy_state import Child
from metricgrad.aligners.turning import KnobTurner
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.form import Draw
from metricgrad.metric import Metric, as_metric
from metricgrad.metrics.threshold import choose_threshold, needs_threshold
from metricgrad.training.batches import as_tensor, is_pair, reseed
from metricgrad.training.children import Children, Looped, Optimizer, Stacked
from metricgrad.training.engine import DivergedError
from metricgrad.training.result import FitResult


@dataclass
class PopulationResult:
    """What a population leaves behind.

    Attributes:
        results: one :class:`FitResult` for each child, the best by validation first.
        loss: the loss that was passed, its aligner with what it learned from all children.
        histories: the aligner's history of each child, in the same order as ``results``.
        stacked: whether the children were trained as one model.
        seconds: of training, the timed first steps included.
    """

    results: list[FitResult]
    loss: Loss
    histories: list[dict[str, Any]]
    stacked: bool
    seconds: float

    @property
    def best(self) -> FitResult:
        """The child that is best by validation."""
        return self.results[0]


def fit_population(
    make_model: Callable[[], nn.Module],
    train: tuple[Any, Any],
    valid: tuple[Any, Any],
    *,
    metric: str | Metric | Callable[..., Any],
    loss: Loss,
    children: int = 10,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer: Optimizer | None = None,
    copy_best: int | None = None,
    stacked: bool | Literal["auto"] = "auto",
    seed: int = 0,
) -> PopulationResult:
    """Train several children of one architecture under one policy: ten rewards a period in place of one.

    Use it where one run has too few periods for a policy to learn from. All children see the same training part in
    orders of their own; each has knobs of its own; what they earn is centred on the population's median, so that what
    any run gains at that time is credited to no action.

    Args:
        make_model: zero-argument factory of a fresh network.
        train: ``(inputs, targets)`` tensors or arrays.
        valid: the same; scored by the policy, and chooses each child's epoch and the best child.
        metric: what is judged by.
        loss: with a Policy or a RandomWalk; its form is copied for each child.
        children: how many.
        epochs: passes over ``train``.
        batch_size: of each child's steps.
        lr: of AdamW.
        weight_decay: its weight decay.
        optimizer: ``params -> Optimizer`` in place of AdamW; ``lr`` and ``weight_decay`` are then yours.
        copy_best: every so many periods the child that is best by the last look replaces the worst: weights, moments,
            knobs and memory, as in population-based training. With a RandomWalk it *is* population-based training.
        stacked: whether children are trained as one model (``torch.func``). ``"auto"`` takes what a timed step finds
            faster, and the loop where the model does not map; the two agree up to rounding.
        seed: of weights, shuffling and everything else random.

    Returns:
        A :class:`PopulationResult`.

    Raises:
        MetricgradError: for bad input, a loss without a policy, or a metric that is undefined throughout.

    Example:
        >>> import torch, metricgrad as mg
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = x[:, :3].argmax(1)
        >>> loss = mg.ALA("accuracy", num_outputs=3)
        >>> parts = (x[:100], y[:100]), (x[100:], y[100:])
        >>> make = lambda: torch.nn.Linear(4, 3)
        >>> found = fit_population(make, *parts, metric="accuracy", loss=loss, children=3, lr=0.1, epochs=5)
        >>> len(found.results)
        3
    """
    judged_by = as_metric(metric)
    aligner = loss.aligner
    if not isinstance(aligner, KnobTurner):
        raise MetricgradError(
            f"loss has the aligner {type(aligner).__name__}; a population needs one that turns knobs, such as mg.ALA"
        )
    if children < 1 or epochs < 1 or batch_size < 1 or (copy_best is not None and copy_best < 1):
        raise MetricgradError(
            f"children, epochs, batch_size, copy_best are {(children, epochs, batch_size, copy_best)}; "
            "expected 1 or more of each"
        )
    inputs, targets = _tensors(train, "train")
    judged_on = _tensors(valid, "valid")
    make_optimizer = optimizer or (lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=weight_decay))
    started = time.perf_counter()
    with isolate_rng():
        models = []
        for child in range(children):
            reseed(seed, -1 - child)
            models.append(make_model())
        group = _group(models, loss, make_optimizer, inputs[:batch_size], targets[:batch_size], stacked)
        reseed(seed, 0)
        run = _Run(group, aligner, judged_by, judged_on, copy_best)
        steps = -(-len(inputs) // batch_size)
        for epoch in range(epochs):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            order = torch.stack([torch.randperm(len(inputs), generator=generator) for _ in range(children)])
            total = torch.zeros(children)
            for step, some in enumerate(order.split(batch_size, 1)):
                draw = Draw(loss.seed, epoch * steps + step)
                values = group.step(inputs[some], targets[some], draw)
                if not torch.isfinite(values).all():
                    raise DivergedError(f"the loss became non-finite in epoch {epoch} with lr={lr:g}; lower lr")
                total += values
                run.after_step(steps * epochs)
            run.judge(epoch, total / steps)
    return run.result(loss, time.perf_counter() - started)


class _Run:
    """Looks, copies, and what is kept of each child."""

    def __init__(
        self,
        group: Children,
        aligner: KnobTurner,
        metric: Metric,
        valid: tuple[Tensor, Tensor],
        copy_best: int | None,
    ) -> None:
        self.group, self.aligner, self.metric, self.valid, self.copy_best = group, aligner, metric, valid, copy_best
        self.memories = [Child() for _ in group.models]
        self.histories: list[list[dict[str, float]]] = [[] for _ in group.models]
        self.kept: list[tuple[float, float | None, dict[str, Tensor]] | None] = [None for _ in group.models]
        self.clock = time.perf_counter()

    def after_step(self, total_steps: int) -> None:
        self.aligner.ticks += 1
        if not self.aligner.due(total_steps):
            return
        inputs, targets = (part[: self.aligner.rows] for part in self.valid)
        before = self.aligner.periods
        progress = min(1.0, self.aligner.ticks / total_steps)
        scores = self.group.scores(inputs)
        self.aligner.observe_all(self.memories, self.group.forms, scores, targets, progress)
        ended = self.aligner.periods > before
        if ended and self.copy_best is not None and self.aligner.periods % self.copy_best == 0:
            self._copy()

    def _copy(self) -> None:
        sign = 1 if self.metric.higher_is_better else -1
        values = [sign * float(child.memory["metric"][-1]) for child in self.memories]
        best, worst = values.index(max(values)), values.index(min(values))
        if values[best] == values[worst]:
            return
        self.group.copy(best, worst)
        self.group.forms[worst].load_state_dict(self.group.forms[best].state_dict())
        own = self.memories[worst].memory
        record = own["history"]
        own.tensors = {name: value.clone() for name, value in self.memories[best].memory.tensors.items()}
        own["history"] = record

    def judge(self, epoch: int, losses: Tensor) -> None:
        inputs, targets = self.valid
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        for child, scores in enumerate(self.group.scores(inputs)):
            threshold = None
            if needs_threshold(self.metric, scores, targets):
                threshold, value = choose_threshold(self.metric, scores, targets)
            else:
                value = float(self.metric(scores, targets))
            row = {"epoch": epoch, "train_loss": float(losses[child]), "valid": value, "seconds": seconds}
            self.histories[child].append(row if threshold is None else {**row, "threshold": threshold})
            best = self.kept[child]
            if not math.isnan(value) and (best is None or self.metric.is_better(value, best[0])):
                self.kept[child] = value, threshold, self.group.state_of(child)

    def result(self, loss: Loss, seconds: float) -> PopulationResult:
        found = []
        for child, (model, kept) in enumerate(zip(self.group.models, self.kept, strict=True)):
            if kept is None:
                raise DivergedError(f"metric {self.metric.name!r} was NaN on valid in every epoch of a child")
            model.load_state_dict(kept[2])
            result = FitResult(model.eval(), self.metric, kept[1], self.histories[child])
            found.append((kept[0], child, result))
        found.sort(key=lambda one: (-one[0] if self.metric.higher_is_better else one[0], one[1]))
        histories = [self.aligner.history_of(self.memories[child]) for _, child, _ in found]
        return PopulationResult(
            [result for _, _, result in found], loss, histories, isinstance(self.group, Stacked), seconds
        )


def _group(
    models: Sequence[nn.Module],
    loss: Loss,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    stacked: bool | Literal["auto"],
) -> Children:
    """The faster of the two, by one timed step of throw-away copies."""
    forms = [copy.deepcopy(loss.form) for _ in models]
    if stacked is not True and (stacked is False or not Stacked.possible(models, forms, inputs)):
        return Looped(models, forms, optimizer)
    if stacked is True:
        return Stacked(models, forms, optimizer)
    state = torch.get_rng_state()
    batch = [part[None].expand(len(models), *part.shape) for part in (inputs, targets)]
    kinds: tuple[type[Stacked] | type[Looped], ...] = (Stacked, Looped)
    seconds: list[float] = []
    for kind in kinds:
        trial = kind([copy.deepcopy(m) for m in models], [copy.deepcopy(f) for f in forms], optimizer)
        trial.step(batch[0], batch[1], Draw(0, 0))
        begun = time.perf_counter()
        for _ in range(3):
            trial.step(batch[0], batch[1], Draw(0, 0))
        seconds.append(time.perf_counter() - begun)
    torch.set_rng_state(state)
    return kinds[seconds.index(min(seconds))](models, forms, optimizer)


def _tensors(part: Any, name: str) -> tuple[Tensor, Tensor]:
    if not is_pair(part):
        raise MetricgradError(f"{name} is a {type(part).__name__}; a population takes (inputs, targets)")
    inputs, targets = (as_tensor(side) for side in part)
    return inputs, targets
