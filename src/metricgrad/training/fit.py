"""``fit``: train a model on a loss, keep the weights that are best by the validation metric."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn

from metricgrad.aligners.base import Forward
from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.aligners.knobs.controller import KnobTurner
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.time_limit import MetricFailedError
from metricgrad.training import files
from metricgrad.training.batches import Data, check_finite_data, epochs_of, loader, reseed
from metricgrad.training.engine import Engine, Optimizer
from metricgrad.training.options import as_loss, check_counts, check_threshold, no_module, unchecked
from metricgrad.training.population.fit_population import fit_population
from metricgrad.training.progress import Bar
from metricgrad.training.quiet import interruptible, quiet
from metricgrad.training.result import FitResult, load_finished
from metricgrad.training.trainer import trainer_of

EVAL_BATCH = 1024


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
    threshold: Literal["auto"] | float | None = "auto",
    per_class: int | None = None,
    children: int | None = None,
    copy_best: int | None = None,
) -> FitResult:
    """Train ``model`` on ``loss`` and return it with the weights that were best by ``metric`` on ``valid``.

    Use it for whole runs on one device; in a loop of your own, call the loss itself. The random state of the caller
    is left as it was, and nothing drawn here depends on it: every epoch's draws follow from (seed, epoch).

    **Threshold.** Where the metric reads labels and there is one score for each item, every epoch is judged at the
    threshold that is best for it on ``valid``, whatever the loss. That value selects the epoch, and that epoch's
    threshold is the one delivered: ``metric(scores - threshold, targets)``.

    **Populations.** With ``children=n`` as many networks are trained at once under the one policy of a loss such as
    ``mg.ALA``, and the best is delivered; :func:`metricgrad.fit_population` has more settings. All begin with the
    weights of ``model`` and differ by their orders and by the moves of their knobs; given a factory, each begins with
    fresh weights. The knobs of ``loss`` itself stay where they were.

    Args:
        model: any module; trained in place. With ``children`` also a zero-argument factory of one.
        train: ``(inputs, targets)`` tensors or arrays, a Dataset, or an iterable of batches such as a DataLoader.
        valid: the same; it chooses the epoch and the threshold, so it must not be the test part.
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
        threshold: ``"auto"``, a fixed number on the logit scale, or None for 0.
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
    checked_number("lr", lr)
    checked_number("weight_decay", weight_decay, zero=True)
    check_counts(epochs=epochs, batch_size=batch_size, patience=patience, per_class=per_class)
    check_threshold(threshold)
    module = as_loss(loss, judged_by, seed)
    if children is not None:
        return _best_of(
            model, train, valid, forward, metric=judged_by, loss=module, children=children, copy_best=copy_best,
            epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
            patience=patience, threshold=threshold, per_class=per_class, out=out, resume=resume, progress=progress,
            device=device, seed=seed,
        )  # fmt: skip
    if copy_best is not None:
        raise MetricgradError(f"copy_best is {copy_best!r} without children; pass children=10, or leave it out")
    if not isinstance(model, nn.Module):
        raise MetricgradError(f"model is {no_module(model)}; a factory goes with children alone, as children=10")
    batches = loader(train, batch_size, shuffle=True, name="train", per_class=per_class, seed=seed)
    judged_on = loader(valid, EVAL_BATCH, shuffle=False, name="valid")
    like_train = getattr(getattr(module, "aligner", None), "valid_like_train", False)
    feedback = loader(valid, batch_size, shuffle=True, name="valid") if like_train else judged_on
    folder = None if out is None else Path(out)
    config = {} if folder is None else {
        "metric": judged_by.spec or judged_by.name, "loss": files.describe(loss), "lr": lr,
        "weight_decay": weight_decay, "epochs": epochs, "batch_size": batch_size, "patience": patience, "seed": seed,
        "threshold": threshold, "per_class": per_class, "optimizer": optimizer and files.describe(optimizer),
        "model": files.describe_model(model), files.WEIGHTS: files.describe_weights(model),
        "train": files.describe_data(train), "valid": files.describe_data(valid),
    }  # fmt: skip
    saved = None
    if folder is not None:
        files.make_folder(folder)
        if not resume:
            files.clear(folder)
        if (finished := files.read_result(folder)) is not None:
            files.forget_own_weights(finished, config)
            files.check_same(folder, finished["config"], config)
            result = load_finished(folder, finished, model, judged_by)
            result.forward = forward
            if result.output is None:
                result.look(valid)
            return result
        if (saved := files.read_checkpoint(folder, files.FitState)) is not None:
            files.check_same(folder, saved["config"], config)

    begun = len(saved["history"]) if saved else 0
    every_epoch = epochs_of(batches, seed, begun)
    steps = len(every_epoch) if hasattr(every_epoch, "__len__") else None  # type: ignore[arg-type]  # hasattr says so
    engine = Engine(
        model, module, judged_by,
        optimizer=optimizer or (lambda params: torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay)),
        forward=forward, threshold=threshold, epochs=every_epoch, train=train, valid=feedback,
        total_steps=None if steps is None else steps * epochs, lr=lr, config=config,
    )  # fmt: skip
    bar = Bar(None if steps is None else steps * epochs, (steps or 0) * begun) if progress else None
    with quiet(), kept_all_randomness(), unchecked(module):
        reseed(seed, -1)
        callbacks: list[Any] = [bar] if bar else []
        if patience is not None:
            mode = "max" if judged_by.higher_is_better else "min"
            callbacks.append(EarlyStopping("valid", patience=patience, mode=mode, min_delta=0.0, check_finite=False))
        trainer = trainer_of(folder, epochs, callbacks, saved, device)
        checkpoint = folder / "last.ckpt" if folder and saved else None
        try:
            with interruptible(), files.blamed(folder), files.resumed(checkpoint, lambda: engine.begun):
                trainer.fit(engine, every_epoch, judged_on, ckpt_path=checkpoint, weights_only=True)
        finally:
            engine.detach_loss()
            if bar:
                bar.close()
    if engine.best is None:
        check_finite_data("valid", valid)
        raise MetricFailedError(
            f"metric {judged_by.name!r} was NaN on valid in every epoch; it needs a validation part on which it is "
            "defined (for many metrics: items of every class)"
        )
    model.load_state_dict(engine.best["state"])
    model.eval()
    result = FitResult(
        model, judged_by, engine.best["threshold"], engine.history, folder, forward, output=engine.output
    )
    if result.output is None:  # a resumed run that had no epoch left
        result.look(valid)
    if folder is not None:
        result.save(folder, config)
    return result


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
    if isinstance(aligner, KnobTurner) and aligner.periods <= aligner.warm_up:
        warnings.warn(
            f"{type(aligner).__name__} had {aligner.periods} periods, {aligner.warm_up} of them warm-up, and has moved "
            "nothing; set a smaller every or warm_up",
            stacklevel=3,
        )
    best = found.best
    if trained:
        model.load_state_dict(best.model.state_dict())
        best.model = model.cpu().eval()
    best.population = found
    return best
