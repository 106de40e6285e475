"""``fit_population``: several child networks trained at once under one policy."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from metricgrad.aligners.turning import KnobTurner
from metricgrad.aligners.turning_figure import plot_history
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.form import Draw, Form
from metricgrad.metric import Metric, as_metric
from metricgrad.training.batches import as_tensor, is_pair, reseed
from metricgrad.training.children import Children, Looped, Optimizer, Stacked
from metricgrad.training.engine import DivergedError
from metricgrad.training.population_run import PopulationRun
from metricgrad.training.ranks import Alone, Ranks
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

    def plot(self, path: str | Path) -> Path:
        """The best child's knobs, rewards and metric over time as one PNG, as :meth:`KnobTurner.plot` draws them."""
        aligner = self.loss.aligner
        assert isinstance(aligner, KnobTurner)
        return plot_history(self.histories[0], path, aligner.metric)


def fit_population(
    make_model: Callable[[], nn.Module],
    train: tuple[Any, Any],
    valid: tuple[Any, Any],
    *,
    metric: str | Metric | Callable[..., Any],
    loss: Loss,
    children: int | None = None,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer: Optimizer | None = None,
    copy_best: int | None = None,
    stacked: bool | Literal["auto"] = "auto",
    starts: Sequence[Mapping[str, float]] | None = None,
    feedback: tuple[Any, Any] | None = None,
    ranks: bool = False,
    seed: int = 0,
) -> PopulationResult:
    """Train several children of one architecture under one policy: ten rewards a period in place of one.

    Use it where one run has too few periods for a policy to learn from. All children see the same training part in
    orders of their own; each has knobs of its own; what they earn is centred on the population's median, so that what
    any run gains at that time is credited to no action.

    Args:
        make_model: zero-argument factory of a fresh network.
        train: ``(inputs, targets)`` tensors or arrays.
        valid: the same; chooses each child's epoch and the best child.
        metric: what is judged by.
        loss: with a Policy or a RandomWalk; its form is copied for each child. Each call begins a run of its own; what
            REINFORCE has learned stays.
        children: how many; 10 by default, with ``ranks=True`` as many as there are ranks.
        epochs: passes over ``train``.
        batch_size: of each child's steps.
        lr: of AdamW.
        weight_decay: its weight decay.
        optimizer: ``params -> Optimizer`` in place of AdamW; ``lr`` and ``weight_decay`` are then yours.
        copy_best: every so many periods the child that is best by the last look replaces the worst: weights, moments,
            knobs and memory, as in population-based training. With a RandomWalk it *is* population-based training.
        stacked: whether children are trained as one model (``torch.func``). ``"auto"`` takes what a timed step finds
            faster, and the loop where the model does not map; the two agree up to rounding.
        starts: where the knobs of each child begin, name -> value; knobs that are not named begin where the form has
            them. With a RandomWalk whose ``warm_up`` never ends this is a grid.
        feedback: ``(inputs, targets)`` that the policy is scored on in place of ``valid``.
        ranks: whether the children are spread over the ranks of torch.distributed's default group, one on each. Every
            rank calls this with the same arguments. What is seen of a child is gathered, so that the policy learns
            from all of them and stays the same everywhere; every rank gets the same result, with all children's
            weights. Models without dropout train as they would in a loop over as many children in one process.
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
        >>> found = mg.fit_population(make, *parts, metric="accuracy", loss=loss, children=3, lr=0.1, epochs=5)
        >>> len(found.results)
        3
    """
    judged_by = as_metric(metric)
    aligner = loss.aligner
    if not isinstance(aligner, KnobTurner):
        raise MetricgradError(
            f"loss has the aligner {type(aligner).__name__}; a population needs one that turns knobs, such as mg.ALA"
        )
    group_of = Ranks.joined(children) if ranks else Alone(10 if children is None else children)
    children = group_of.children
    if children < 1 or epochs < 1 or batch_size < 1 or (copy_best is not None and copy_best < 1):
        raise MetricgradError(
            f"children, epochs, batch_size, copy_best are {(children, epochs, batch_size, copy_best)}; "
            "expected 1 or more of each"
        )
    inputs, targets = _tensors(train, "train")
    judged_on = _tensors(valid, "valid")
    scored_on = judged_on if feedback is None else _tensors(feedback, "feedback")
    forms = _forms(loss.form, children, starts)
    aligner.restart()
    group_of.agree(aligner, forms, [seed, epochs, batch_size, copy_best or 0, len(inputs), len(scored_on[0])])
    make_optimizer = optimizer or (lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=weight_decay))
    started = time.perf_counter()
    with isolate_rng():
        models: list[nn.Module] = []
        for child in group_of.own:
            reseed(seed, -1 - child)
            models.append(make_model())
        here = [forms[child] for child in group_of.own]
        group = _group(models, here, make_optimizer, inputs[:batch_size], targets[:batch_size], stacked)
        reseed(seed, group_of.own[0] * 1_000)
        run = PopulationRun(group, forms, group_of, aligner, judged_by, judged_on, scored_on, copy_best)
        aligner.batch, aligner.held = aligner.batch or batch_size, len(scored_on[0])
        steps = -(-len(inputs) // batch_size)
        for epoch in range(epochs):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            orders = [torch.randperm(len(inputs), generator=generator) for _ in range(children)]
            order = torch.stack([orders[child] for child in group_of.own])
            total = torch.zeros(len(models))
            for step, some in enumerate(order.split(batch_size, 1)):
                draw = Draw(loss.seed, epoch * steps + step)
                values = group.step(inputs[some], targets[some], draw)
                if not torch.isfinite(values).all():
                    raise DivergedError(f"the loss became non-finite in epoch {epoch} with lr={lr:g}; lower lr")
                total += values
                run.after_step(values, steps * epochs)
            run.judge(epoch, total / steps)
        results, histories = run.results()
    return PopulationResult(results, loss, histories, isinstance(group, Stacked), time.perf_counter() - started)


def _forms(form: Form, children: int, starts: Sequence[Mapping[str, float]] | None) -> list[Form]:
    """A copy for each child, its knobs where they begin."""
    if starts is not None and len(starts) != children:
        raise MetricgradError(f"starts has {len(starts)} entries for {children} children; give one for each")
    forms = [copy.deepcopy(form) for _ in range(children)]
    for own, start in zip(forms, starts or [{}] * children, strict=True):
        knobs = own.knobs()
        for name, value in start.items():
            if name not in knobs or not knobs[name].low <= value <= knobs[name].high:
                known = ", ".join(f"{k} ({v.low:g} to {v.high:g})" for k, v in knobs.items())
                raise MetricgradError(f"starts has {name}={value!r}; expected some of {known}")
            with torch.no_grad():
                knobs[name].parameter.fill_(value)
    return forms


def _group(
    models: Sequence[nn.Module],
    forms: Sequence[Form],
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    stacked: bool | Literal["auto"],
) -> Children:
    """The faster of the two, by one timed step of throw-away copies."""
    if stacked is not True and (stacked is False or len(models) == 1 or not Stacked.possible(models, forms, inputs)):
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
