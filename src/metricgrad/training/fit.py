"""``fit``: train a model on a loss, keep the weights that are best by the validation metric."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metricgrad.aligners.base import Forward
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.decisions.base import Decision
from metricgrad.decisions.identity import Identity
from metricgrad.distributed import apart
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.time_limit import MetricFailedError
from metricgrad.training.batches import Data, check_finite_data, context_of, epochs_of, loader, reseed
from metricgrad.training.delivery import Delivery
from metricgrad.training.engine import EPOCH_AS_BATCH, Engine
from metricgrad.training.options import Optimizer, Recipe, as_loss, no_module, unchecked
from metricgrad.training.population.fit_population import fit_population
from metricgrad.training.quiet import interruptible, quiet
from metricgrad.training.result import FitResult
from metricgrad.training.run_folder import files, fingerprints
from metricgrad.training.run_folder.folder import RunFolder
from metricgrad.training.run_record import PlainRecord, RunRecord
from metricgrad.training.stored_result import load_finished
from metricgrad.training.trainer import trainer_of

EVAL_BATCH = 1024


@apart()  # this process trains alone, whatever group it is in
def fit(
    model: nn.Module | Callable[[], nn.Module],
    train: Data,
    valid: Data,
    *,
    metric: str | Metric | Callable[..., Any],
    loss: str | nn.Module | Callable[[], nn.Module] = "uniloss",
    out: str | Path | None = None,
    resume: bool = True,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    epochs: int = 20,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    forward: Forward | None = None,
    patience: int | None = None,
    seed: int = 0,
    progress: bool = True,
    device: str = "auto",
    decision: str | Decision = "auto",
    per_class: int | None = None,
    children: int | None = None,
    copy_best: int | None = None,
) -> FitResult:
    """Train ``model`` on ``loss`` and return it with the weights that were best by ``metric`` on ``valid``.

    Use it for whole runs on one device; in a loop of your own, call the loss itself. The random state of the caller
    is left as it was, and nothing drawn here depends on it: every epoch's draws follow from (seed, epoch).

    **Decision.** After training, the decision that ``metric`` asks for is fitted on the validation scores of the best
    weights by :func:`metricgrad.fit_decision`: a threshold, offsets of classes, cuts between grades, or none where none
    pays. ``metric(decision(scores), targets)`` is what is delivered; ``result.valid`` is its value on validation rows
    that each decision was not fitted on, ``result.valid_undecided`` that of the plain reading. Epochs are compared at
    the best threshold of each where the metric reads one score an item, else by the plain reading; where no threshold
    pays in the end, the epoch that is best as scores are read plainly is delivered.

    **Populations.** With ``children=n`` as many networks are trained at once under the one policy of a loss such as
    ``mg.ALA``, and the best is delivered; :func:`metricgrad.fit_population` has more settings. All begin with the
    weights of ``model`` and differ by their orders and by the moves of their knobs; given a factory, each begins with
    fresh weights. The knobs of ``loss`` itself stay where they were.

    Args:
        model: any module; trained in place. With ``children`` also a zero-argument factory of one.
        train: ``(inputs, targets)`` tensors or arrays, a Dataset, or an iterable of batches such as a DataLoader. With
            ``(inputs, targets, weights)`` rows are drawn as often as they weigh, whatever the loss; of ``valid``
            weights are the metric's ``sample_weight``, and the decision's.
        valid: the same; it chooses the epoch and the decision, so it must not be the test part.
        metric: anything :func:`metricgrad.as_metric` takes with no further words.
        loss: a name from ``metricgrad.systems.by_name``, a module of scores and targets, or a zero-argument
            factory of one. A module that is not ours, such as ``torch.nn.BCEWithLogitsLoss()``, is handed what torch's
            own losses take: see :mod:`metricgrad.losses.calling`.
        out: a folder for ``last.ckpt``, ``model.safetensors``, ``result.json``, ``metrics.csv`` and TensorBoard's
            events. None writes nothing.
        resume: continue an interrupted run in ``out`` and return a finished one without training; False starts anew.
            ``model`` must begin with the weights that run began with: make it from the same seed.
        lr: the learning rate of the default optimiser, AdamW.
        weight_decay: its weight decay.
        epochs: passes over ``train``; the best one is kept, so too many cost time only.
        batch_size: items in a step; ignored where ``train`` is a loader.
        optimizer: ``params -> Optimizer`` in place of AdamW; ``lr`` and ``weight_decay`` are then yours.
        forward: ``(model, batch) -> (scores, targets)`` for batches that are not ``(inputs, targets)``.
        patience: stop after this many epochs without a better validation value; None never stops early.
        seed: decides shuffling and everything else random.
        progress: a bar on stderr for runs longer than two seconds.
        device: ``"auto"``, or one of Lightning's accelerators, such as ``"cpu"`` (often faster for a small network) or
            ``"gpu"``.
        decision: ``"auto"``; ``"none"`` for the plain reading; a kind such as ``"threshold"`` or ``"offsets"``, taken
            without a guard; or a decision that was made before, such as ``mg.decisions.Threshold(0.5)``.
        per_class: for embeddings: in each step, ``batch_size // per_class`` classes with this many items of each.
        children: how many networks to train under one policy; ``train`` and ``valid`` are then ``(inputs, targets)``,
            and there is no ``forward``.
        copy_best: with ``children``: every so many periods of the policy the best child replaces the worst.

    Returns:
        A :class:`FitResult`; with ``children`` that of the best child, all of them in its ``population``.

    Raises:
        MetricgradError: for bad input, a non-finite loss, a metric undefined in every epoch, an ``out`` that holds a
            run of another configuration, or ``children`` with a loss that has no knobs to turn.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.training.fit import fit
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = x[:, :3].argmax(1)
        >>> parts = (x[:100], y[:100]), (x[100:], y[100:])
        >>> result = fit(torch.nn.Linear(4, 3), *parts, metric="accuracy", loss="cross_entropy", lr=0.1, epochs=5)
        >>> result.valid > 0.8
        True
    """
    judged_by = as_metric(metric)
    recipe = Recipe(lr, weight_decay, epochs, batch_size, optimizer, patience, decision, per_class, seed)
    module = as_loss(loss, judged_by, seed)
    if children is not None:
        return _best_of(
            model, train, valid, forward, metric=judged_by, loss=module, children=children, copy_best=copy_best,
            epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
            patience=patience, decision=decision, per_class=per_class, out=out, resume=resume, progress=progress,
            device=device, seed=seed,
        )  # fmt: skip
    model = _alone(model, copy_best)
    batches = loader(train, batch_size, shuffle=True, name="train", per_class=per_class, seed=seed)
    judged_on = loader(valid, EVAL_BATCH, shuffle=False, name="valid")
    like_train = getattr(getattr(module, "aligner", None), "valid_like_train", False)
    drawn = like_train or bool(context_of(valid))  # rows that an aligner sees count by being there
    feedback = loader(valid, batch_size if like_train else EVAL_BATCH, shuffle=drawn, name="valid")
    config = {
        "metric": judged_by.spec or judged_by.name, "loss": fingerprints.describe(loss), **recipe.config(),
        **fingerprints.describe_parts(train, valid),
    }  # fmt: skip
    folder = None if out is None else RunFolder(Path(out), config | fingerprints.describe_start(model), resume=resume)
    if folder is not None and folder.finished is not None:
        return _looked(load_finished(folder.path, folder.finished, model, judged_by), valid, forward)
    record = RunRecord(Delivery(judged_by, decision, seed, context_of(valid)), 1, patience, plainly=True)
    saved = None if folder is None else folder.take_up(record, [model])
    engine = Engine(
        model, module, record, recipe, forward=forward, epochs=epochs_of(batches, seed, record.epoch), train=train,
        valid=feedback, folder=folder, progress=progress,
    )  # fmt: skip
    with quiet(), kept_all_randomness(), unchecked(module):
        reseed(seed, -1)
        place = _train(engine, judged_on, device, saved)
    result = _delivered(engine, valid, forward, place, config)
    if folder is not None:
        folder.finish(result)
    return result


def _train(engine: Engine, judged_on: Iterable[Any], device: str, saved: dict[str, Any] | None) -> torch.device:
    """Every epoch that is left, on Lightning; returns where that was."""
    folder = engine.folder
    path = folder.checkpoint if folder and saved else None
    try:
        trainer = trainer_of(folder, engine.recipe.epochs, device)
        with interruptible(), files.blamed(folder and folder.path), files.resumed(path, lambda: engine.begun):
            trainer.fit(engine, EPOCH_AS_BATCH, judged_on, ckpt_path=path, weights_only=True)
    finally:
        engine.close()
    return trainer.strategy.root_device


def _delivered(
    engine: Engine, valid: Data, forward: Forward | None, device: torch.device, config: dict[str, Any]
) -> FitResult:
    """The model with the weights that were best, and the decision for them."""
    metric, (kept,) = engine.record.metric, engine.record.kept
    if math.isnan(kept.value):
        check_finite_data("valid", valid)
        raise MetricFailedError(
            f"metric {metric.name!r} was NaN on valid in every epoch; it needs a validation part on which it is "
            "defined (for many metrics: items of every class)"
        )
    engine.model.load_state_dict(kept.state)
    result = FitResult(
        engine.model.eval(), metric, history=kept.history, loss=engine.loss, forward=forward, output=engine.output,
        card=config,
    )  # fmt: skip
    result.settle(valid, engine.record.delivery, device)
    for plain in engine.record.plain:
        if plain.state and result.decision.kind == Identity.kind:
            engine.model.load_state_dict(plain.state)
            return result.read_plainly(engine.model, plain.valid, result.decision.findings.words)
        if plain.state:
            result.plain = partial(_read_plainly, result, plain)
    return result


def _read_plainly(result: FitResult, best: PlainRecord) -> FitResult:
    model = copy.deepcopy(result.model)
    model.load_state_dict(best.state)
    return result.read_plainly(model, best.valid)


def _looked(result: FitResult, valid: Data, forward: Forward | None) -> FitResult:
    """The result, knowing what its scores are of also where no epoch was left to train."""
    result.forward = forward
    if result.output is None:
        result.look(valid)
    return result


def _alone(model: Any, copy_best: int | None) -> nn.Module:
    """One module, and nothing that needs children."""
    if copy_best is not None:
        raise MetricgradError(f"copy_best is {copy_best!r} without children; pass children=10, or leave it out")
    if not isinstance(model, nn.Module):
        raise MetricgradError(f"model is {no_module(model)}; a factory goes with children alone, as children=10")
    return model


def _best_of(
    model: nn.Module | Callable[[], nn.Module], train: Data, valid: Data, forward: Forward | None, **options: Any
) -> FitResult:
    """The best child of a population, in ``model`` where that is a module."""
    if forward is not None:
        raise MetricgradError(
            "forward does not go with children: a population calls model(inputs) on tensors; put what forward does "
            "into the model, and give train and valid as (inputs, targets)"
        )
    if not callable(model):
        raise MetricgradError(f"model is a {type(model).__name__}; give a module, or a zero-argument factory of one")
    trained = isinstance(model, nn.Module)
    found = fit_population(partial(copy.deepcopy, model) if trained else model, train, valid, **options)
    aligner = found.loss.aligner
    if isinstance(aligner, KnobController) and aligner.periods <= aligner.settings.warm_up:
        warnings.warn(
            f"{type(aligner).__name__} had {aligner.periods} periods, {aligner.settings.warm_up} of them warm-up, and "
            "has moved nothing; set a smaller every or warm_up",
            stacklevel=3,
        )
    best = found.best
    if trained:
        model.load_state_dict(best.model.state_dict())
        best.model = model.cpu().eval()
    best.population = found
    return best
