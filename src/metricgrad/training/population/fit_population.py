"""``fit_population``: several child networks trained at once under one policy."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.decisions.base import Decision
from metricgrad.distributed import apart
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.base import CallContext
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.progress import ProgressBar
from metricgrad.training.batches import reseed
from metricgrad.training.delivery import Delivery
from metricgrad.training.engine import DivergedError
from metricgrad.training.options import Optimizer, Recipe, check_counts, made_by, unchecked
from metricgrad.training.population.children import Stacked
from metricgrad.training.population.orders import Orders
from metricgrad.training.population.run import PopulationRun
from metricgrad.training.population.start import children_of, forms_of, tensors_of
from metricgrad.training.quiet import quiet
from metricgrad.training.result import FitResult, PopulationResult
from metricgrad.training.run_folder import fingerprints
from metricgrad.training.run_folder.folder import RunFolder
from metricgrad.training.run_record import RunRecord
from metricgrad.training.trainer import device_of


@apart()  # this process trains alone, whatever group it is in
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
    patience: int | None = None,
    decision: str | Decision = "auto",
    per_class: int | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    device: str | None = None,
    seed: int = 0,
) -> PopulationResult:
    """Train several children of one architecture under one policy: ten rewards a period in place of one.

    Use it where one run has too few periods for a policy to learn from; ``fit(..., children=10)`` is the shorter way.
    All children see the same training part in orders of their own; each has knobs of its own; what they earn is
    centred on the population's median, so that what any run gains at that time is credited to no action.

    Args:
        make_model: zero-argument factory of a fresh network.
        train: ``(inputs, targets)`` tensors or arrays.
        valid: the same; chooses each child's epoch and the best child.
        metric: what is judged by.
        loss: with a Policy or a RandomWalk; its form is copied for each child. Each call begins a run of its own; what
            REINFORCE has learned stays.
        children: how many; 10 by default.
        epochs: passes over ``train``.
        batch_size: of each child's steps.
        lr: of AdamW.
        weight_decay: its weight decay.
        optimizer: ``params -> Optimizer`` in place of AdamW; ``lr`` and ``weight_decay`` are then yours.
        copy_best: every so many periods the child that is best by the last look replaces the worst: weights, moments,
            knobs and memory, as in population-based training. With a RandomWalk it *is* population-based training.
        stacked: whether children are trained as one model (``torch.func``). ``"auto"`` takes what a timed step finds
            faster, and the loop where the model does not map or the optimiser is none of torch's that treat every
            number by itself. The two agree up to rounding: say which for runs that shall agree to the last digit.
        starts: where the knobs of each child begin, name -> value; knobs that are not named begin where the form has
            them. With a RandomWalk whose ``warm_up`` never ends this is a grid.
        feedback: ``(inputs, targets)`` that the policy is scored on in place of ``valid``.
        patience: stop after this many epochs in which no child was better than all had been; None never stops early.
        decision: that children are delivered under, as in :func:`metricgrad.fit`.
        per_class: for embeddings: in each step of a child, ``batch_size // per_class`` classes with so many items.
        out: a folder for ``last.ckpt`` (all children, after each epoch), ``metrics.csv``, TensorBoard's events, and
            ``model.safetensors`` and ``result.json`` of the best child. None writes nothing.
        resume: continue an interrupted population in ``out``, to the digit, and return a finished one without training;
            False starts anew.
        progress: a bar on stderr for runs longer than two seconds.
        device: one of Lightning's accelerators, or ``"auto"``; None stays where the models and the data are.
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
    aligner = _controller_of(loss)
    check_counts(children=children, copy_best=copy_best)
    recipe = Recipe(lr, weight_decay, epochs, batch_size, optimizer, patience, decision, per_class, seed)
    count = 10 if children is None else children
    place = None if device is None else device_of(device)
    inputs, targets = tensors_of(train, "train", place)
    judged_on = tensors_of(valid, "valid", place)
    scored_on = judged_on if feedback is None else tensors_of(feedback, "feedback", place)
    forms = [form.to(place) for form in forms_of(loss.form, count, starts)]
    orders = Orders(targets, count, batch_size, per_class, seed)
    aligner.restart()
    started = time.perf_counter()
    with quiet(), kept_all_randomness(), unchecked(*forms):
        models = _models(make_model, count, seed, place)
        folder = None if out is None else RunFolder(Path(out), {
            "metric": judged_by.spec or judged_by.name, "loss": fingerprints.describe(loss), **recipe.config(),
            **fingerprints.describe_parts(train, valid), **fingerprints.describe_start(models[0]), "children": count,
            "copy_best": copy_best, "stacked": stacked, "starts": starts and [dict(start) for start in starts],
            "feedback": feedback and fingerprints.describe_data(feedback),
        }, resume=resume)  # fmt: skip
        record = RunRecord(Delivery(judged_by, decision, seed), count, patience)
        saved = None if folder is None else folder.take_up(record, models, whole=True)
        group = children_of(
            models, forms, recipe.make_optimizer, inputs[:batch_size], targets[:batch_size],
            saved["population"]["stacked"] if saved else stacked,
        )  # fmt: skip
        run = PopulationRun(group, aligner, record, judged_on, scored_on, copy_best)
        run.take_up(folder, saved)
        _train(run, recipe, inputs, targets, orders, folder, loss.seed, progress)
        results, histories = _delivered(run, record, folder)
    return PopulationResult(results, loss, histories, isinstance(group, Stacked), time.perf_counter() - started)


def _delivered(
    run: PopulationRun, record: RunRecord, folder: RunFolder | None
) -> tuple[list[FitResult], list[dict[str, Any]]]:
    """The children, best first; of a run that has just ended the checkpoint is left with their decisions in it."""
    ended = copy.deepcopy(run.state()) if folder and folder.finished is None else None
    results, histories = run.results()
    if folder is not None:
        if ended is not None:
            folder.keep(record, population=ended)
        folder.finish(results[0])
    return results, histories


def _models(make_model: Callable[[], nn.Module], count: int, seed: int, device: torch.device | None) -> list[nn.Module]:
    """Each with random weights of its own, where the factory draws any."""
    models: list[nn.Module] = []
    for child in range(count):
        reseed(seed, -1 - child)
        models.append(made_by(make_model, "the factory").to(device))
    return models


def _train(
    run: PopulationRun,
    recipe: Recipe,
    inputs: Tensor,
    targets: Tensor,
    orders: Orders,
    folder: RunFolder | None,
    loss_seed: int,
    progress: bool,
) -> None:
    """Every epoch that is left."""
    record, steps = run.record, len(orders)
    state = run.aligner.state
    state.batch, state.held = state.batch or recipe.batch_size, len(run.feedback[0])
    bar = ProgressBar(steps * recipe.epochs, "population", steps * record.epoch) if progress else None
    try:
        while not record.over(recipe.epochs):
            # every epoch's draws follow from the seed and its number, so that a resumed run has them too
            reseed(recipe.seed, record.epoch)
            _pass(run, recipe, inputs, targets, orders, loss_seed, bar)
            if folder:
                folder.write(record, population=run.state())
    finally:
        if bar:
            bar.close()


def _pass(
    run: PopulationRun,
    recipe: Recipe,
    inputs: Tensor,
    targets: Tensor,
    orders: Orders,
    loss_seed: int,
    bar: ProgressBar | None,
) -> None:
    """One epoch of all children."""
    epoch = run.record.epoch
    run.record.begin()
    total = torch.zeros(len(run.group.models), device=inputs.device)
    for step, some in enumerate(orders.of(epoch)):
        values = run.group.step(inputs[some], targets[some], CallContext(loss_seed, epoch * len(orders) + step))
        if not torch.isfinite(values).all():
            raise DivergedError(f"the loss became non-finite in epoch {epoch} with lr={recipe.lr:g}; lower lr")
        total += values
        run.after_step(values, len(orders) * recipe.epochs)
        if bar:
            bar.advance()
    run.judge(total / len(orders))
    if bar:
        bar.show(run.record.best)


def _controller_of(loss: nn.Module) -> KnobController:
    aligner = loss.aligner if isinstance(loss, Loss) else None
    if not isinstance(aligner, KnobController):
        has = f"has the aligner {type(aligner).__name__}" if aligner is not None else f"is a {type(loss).__name__}"
        raise MetricgradError(f"loss {has}; a population needs a loss whose aligner turns knobs, such as mg.ALA")
    return aligner
