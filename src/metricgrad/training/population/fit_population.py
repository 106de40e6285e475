"""``fit_population``: several child networks trained at once under one policy."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobTurner
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.base import Draw
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.training import files
from metricgrad.training.batches import reseed
from metricgrad.training.engine import DivergedError
from metricgrad.training.options import check_counts, check_threshold, made_by, unchecked
from metricgrad.training.population.children import Optimizer, Stacked
from metricgrad.training.population.files import PopulationFolder
from metricgrad.training.population.orders import Orders
from metricgrad.training.population.ranks import Alone, Ranks
from metricgrad.training.population.run import PopulationRun
from metricgrad.training.population.start import children_of, forms_of, tensors_of
from metricgrad.training.progress import Bar
from metricgrad.training.quiet import quiet
from metricgrad.training.result import PopulationResult
from metricgrad.training.trainer import device_of


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
    patience: int | None = None,
    threshold: Literal["auto"] | float | None = "auto",
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
        children: how many; 10 by default, with ``ranks=True`` as many as there are ranks.
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
        ranks: whether the children are spread over the ranks of torch.distributed's default group, one on each. Every
            rank calls this with the same arguments. What is seen of a child is gathered, so that the policy learns
            from all of them and stays the same everywhere; every rank gets the same result, with all children's
            weights. Models without dropout train as they would in a loop over as many children in one process.
        patience: stop after this many epochs in which no child was better than all had been; None never stops early.
        threshold: that children are judged at, as in :func:`metricgrad.fit`.
        per_class: for embeddings: in each step of a child, ``batch_size // per_class`` classes with so many items.
        out: a folder for ``last.ckpt`` (all children, after each epoch), ``metrics.csv``, TensorBoard's events, and
            ``model.safetensors`` and ``result.json`` of the best child. None writes nothing. Not with ``ranks``.
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
    aligner = _turner_of(loss)
    check_counts(
        children=children, epochs=epochs, batch_size=batch_size, copy_best=copy_best, patience=patience,
        per_class=per_class,
    )  # fmt: skip
    checked_number("lr", lr)
    checked_number("weight_decay", weight_decay, zero=True)
    check_threshold(threshold)
    if ranks and out is not None:
        raise MetricgradError(
            "out goes with a population in one process, and ranks=True spreads it; leave one of them out, and keep the "
            "best child with found.best.save(folder, {})"
        )
    where = Ranks.joined(children) if ranks else Alone(10 if children is None else children)
    place = None if device is None else device_of(device)
    inputs, targets = tensors_of(train, "train", place)
    judged_on = tensors_of(valid, "valid", place)
    scored_on = judged_on if feedback is None else tensors_of(feedback, "feedback", place)
    forms = [form.to(place) for form in forms_of(loss.form, where.children, starts)]
    orders = Orders(targets, where.children, where.own, batch_size, per_class, seed)
    aligner.restart()
    settings = zlib.crc32(repr((epochs, patience, threshold, per_class)).encode())
    where.agree(aligner, forms, [seed, settings, batch_size, copy_best or 0, len(inputs), len(scored_on[0])])
    make_optimizer = optimizer or (lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=weight_decay))
    started, steps = time.perf_counter(), len(orders)
    with quiet(), kept_all_randomness(), unchecked(*forms):
        models: list[nn.Module] = []
        for child in where.own:
            reseed(seed, -1 - child)
            models.append(made_by(make_model, "the factory").to(place))
        folder = None if out is None else PopulationFolder(Path(out), {
            "metric": judged_by.spec or judged_by.name, "loss": files.describe(loss), "lr": lr,
            "weight_decay": weight_decay, "epochs": epochs, "batch_size": batch_size, "patience": patience,
            "seed": seed, "threshold": threshold, "per_class": per_class, "children": where.children,
            "copy_best": copy_best, "stacked": stacked, "starts": starts and [dict(start) for start in starts],
            "optimizer": optimizer and files.describe(optimizer), "model": files.describe_model(models[0]),
            files.WEIGHTS: files.describe_weights(models[0]),
            "train": files.describe_data(train), "valid": files.describe_data(valid),
            "feedback": feedback and files.describe_data(feedback),
        }, resume)  # fmt: skip
        saved = folder.saved if folder else None
        here, first = [forms[child] for child in where.own], slice(batch_size)
        how = saved["stacked"] if saved else stacked
        group = children_of(models, here, make_optimizer, inputs[first], targets[first], how)
        run = PopulationRun(group, forms, where, aligner, judged_by, judged_on, scored_on, copy_best, threshold)
        if saved:
            with files.resumed(Path(out or "") / "last.ckpt", lambda: False):
                run.load_state(saved)
        aligner.batch, aligner.held = aligner.batch or batch_size, len(scored_on[0])
        bar = Bar(steps * epochs, steps * run.epoch, "population") if progress and 0 in where.own else None
        try:
            while run.epoch < epochs and (patience is None or run.stale < patience):
                # every epoch's draws follow from the seed and its number, so that a resumed run has them too
                reseed(seed, where.own[0] * 1_000 + run.epoch)
                _pass(run, inputs, targets, orders, loss.seed, steps * epochs, lr, bar)
                if folder:
                    folder.write(run)
        finally:
            if bar:
                bar.close()
        results, histories = run.results()
    for result in results if place else ():
        result.model.cpu()
    results[0].look(judged_on)
    for result in results:
        result.output = results[0].output
    if folder:
        folder.finish(results[0])
    return PopulationResult(results, loss, histories, isinstance(group, Stacked), time.perf_counter() - started)


def _pass(
    run: PopulationRun,
    inputs: Tensor,
    targets: Tensor,
    orders: Orders,
    loss_seed: int,
    total_steps: int,
    lr: float,
    bar: Bar | None,
) -> None:
    """One epoch of all children that are here."""
    total = torch.zeros(len(orders.own), device=inputs.device)
    for step, some in enumerate(orders.of(run.epoch)):
        values = run.group.step(inputs[some], targets[some], Draw(loss_seed, run.epoch * len(orders) + step))
        if not torch.isfinite(values).all():
            raise DivergedError(f"the loss became non-finite in epoch {run.epoch} with lr={lr:g}; lower lr")
        total += values
        run.after_step(values, total_steps)
        if bar:
            bar.advance()
    run.judge(total / len(orders))
    if bar:
        bar.show(run.best)


def _turner_of(loss: nn.Module) -> KnobTurner:
    aligner = loss.aligner if isinstance(loss, Loss) else None
    if not isinstance(aligner, KnobTurner):
        has = f"has the aligner {type(aligner).__name__}" if aligner is not None else f"is a {type(loss).__name__}"
        raise MetricgradError(f"loss {has}; a population needs a loss whose aligner turns knobs, such as mg.ALA")
    return aligner
