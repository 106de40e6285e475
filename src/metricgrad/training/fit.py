"""``fit``: train a model on a loss, keep the weights that are best by the validation metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from metricgrad.aligners.base import Forward
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.batches import checked_number
from metricgrad.losses.catalogue import make_loss
from metricgrad.metric import Metric, as_metric
from metricgrad.training import files
from metricgrad.training.batches import Data, epochs_of, loader, reseed
from metricgrad.training.engine import DivergedError, Engine, Optimizer
from metricgrad.training.progress import Bar
from metricgrad.training.quiet import interruptible, quiet
from metricgrad.training.result import FitResult, load_finished

EVAL_BATCH = 1024


def fit(
    model: nn.Module,
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
) -> FitResult:
    """Train ``model`` on ``loss`` and return it with the weights that were best by ``metric`` on ``valid``.

    Use it for whole runs on one device; in a loop of your own, call the loss itself. The random state of the caller
    is left as it was, and nothing drawn here depends on it: every epoch's draws follow from (seed, epoch).

    **Threshold.** Where the metric reads labels and there is one score for each item, every epoch is judged at the
    threshold that is best for it on ``valid``, whatever the loss. That value selects the epoch, and that epoch's
    threshold is the one delivered: ``metric(scores - threshold, targets)``.

    Args:
        model: any module; trained in place.
        train: ``(inputs, targets)`` tensors or arrays, a Dataset, or an iterable of batches such as a DataLoader.
        valid: the same; it chooses the epoch and the threshold, so it must not be the test part.
        metric: anything :func:`metricgrad.as_metric` takes with no further words.
        loss: a name from ``metricgrad.losses.catalogue``, a module called as ``loss(scores, targets)``, or a
            zero-argument factory of one.
        out: a folder for ``last.ckpt``, ``model.safetensors``, ``result.json``, ``metrics.csv`` and TensorBoard's
            events. None writes nothing.
        resume: continue an interrupted run in ``out`` and return a finished one without training; False starts anew.
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

    Returns:
        A :class:`FitResult`.

    Raises:
        MetricgradError: for bad input, a non-finite loss, a metric undefined in every epoch, or an ``out`` that
            holds a run of another configuration.

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
    _check_counts(epochs=epochs, batch_size=batch_size, patience=patience)
    _check_threshold(threshold)
    module = _as_loss(loss, judged_by, seed)
    batches = loader(train, batch_size, shuffle=True, name="train", per_class=per_class, seed=seed)
    judged_on = loader(valid, EVAL_BATCH, shuffle=False, name="valid")
    like_train = getattr(getattr(module, "aligner", None), "valid_like_train", False)
    feedback = loader(valid, batch_size, shuffle=True, name="valid") if like_train else judged_on
    folder = None if out is None else Path(out)
    config = {} if folder is None else {
        "metric": judged_by.spec or judged_by.name, "loss": _name_of(loss), "lr": lr, "weight_decay": weight_decay,
        "epochs": epochs, "batch_size": batch_size, "patience": patience, "seed": seed, "threshold": threshold,
        "per_class": per_class,
        "optimizer": None if optimizer is None else _name_of(optimizer), "model": files.describe_model(model),
        "train": files.describe_data(train), "valid": files.describe_data(valid),
    }  # fmt: skip
    saved = None
    if folder is not None:
        files.make_folder(folder)
        if not resume:
            files.clear(folder)
        if (finished := files.read_result(folder)) is not None:
            files.check_same(folder, finished["config"], config)
            result = load_finished(folder, finished, model, judged_by)
            result.forward = forward
            return result
        if (saved := files.read_checkpoint(folder)) is not None:
            files.check_same(folder, saved["config"], config)

    begun = len(saved["history"]) if saved else 0
    every_epoch = epochs_of(batches, seed, begun)
    steps = len(every_epoch) if hasattr(every_epoch, "__len__") else None  # type: ignore[arg-type]  # hasattr says so
    engine = Engine(
        model, module, judged_by,
        optimizer=optimizer or (lambda params: torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay)),
        forward=forward, threshold=threshold, epochs=every_epoch, valid=feedback,
        total_steps=None if steps is None else steps * epochs, lr=lr, config=config,
    )  # fmt: skip
    bar = Bar(None if steps is None else steps * epochs, (steps or 0) * begun) if progress else None
    with quiet(), isolate_rng(), _unchecked(module):
        reseed(seed, -1)
        callbacks: list[Any] = [bar] if bar else []
        if patience is not None:
            mode = "max" if judged_by.higher_is_better else "min"
            callbacks.append(EarlyStopping("valid", patience=patience, mode=mode, min_delta=0.0, check_finite=False))
        trainer = _trainer(folder, epochs, callbacks, saved, device)
        checkpoint = str(folder / "last.ckpt") if folder and saved else None
        try:
            with interruptible():
                trainer.fit(engine, every_epoch, judged_on, ckpt_path=checkpoint, weights_only=True)
        finally:
            engine.detach_loss()
            if bar:
                bar.close()
    if engine.best is None:
        raise DivergedError(
            f"metric {judged_by.name!r} was NaN on valid in every epoch; it needs a validation part on which it is "
            "defined (for many metrics: items of every class)"
        )
    model.load_state_dict(engine.best["state"])
    model.eval()
    result = FitResult(model, judged_by, engine.best["threshold"], engine.history, folder, forward)
    if folder is not None:
        result.save(folder, config)
    return result


def _trainer(
    folder: Path | None, epochs: int, callbacks: list[Any], saved: dict[str, Any] | None, device: str
) -> lightning.Trainer:
    loggers: list[Any] = []
    if folder is not None:
        csv = CSVLogger(folder, name="", version="")
        for row in saved["history"] if saved else ():  # Lightning rewrites the file, so say the earlier epochs again
            csv.log_metrics({k: row[k] for k in ("train_loss", "valid")} | {"epoch": row["epoch"]}, row["epoch"])
        loggers = [csv, TensorBoardLogger(folder, name="", version="")]
        last = ModelCheckpoint(folder, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False)
        callbacks = [*callbacks, last]
    try:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator=device,
            devices=1,
            logger=loggers or False,
            callbacks=callbacks,
            enable_checkpointing=folder is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
    except (ValueError, MisconfigurationException) as error:
        raise MetricgradError(f"device={device!r} cannot be used here: {error}; pass device='cpu' or 'auto'") from error


def _as_loss(loss: Any, metric: Metric, seed: int) -> nn.Module:
    if isinstance(loss, str):
        module = make_loss(loss, metric, seed=seed)
    elif isinstance(loss, nn.Module):
        module = loss
    elif callable(loss):
        module = loss()
    else:
        module = None
    if not isinstance(module, nn.Module):
        raise MetricgradError(
            f"loss must be a name, an nn.Module or a zero-argument factory of one, not {type(loss).__name__}"
        )
    return module


@contextmanager
def _unchecked(module: nn.Module) -> Generator[None]:
    """Losses let non-finite scores through: fit looks itself, and names the learning rate."""
    before = [(part, getattr(part, "check_finite")) for part in module.modules() if hasattr(part, "check_finite")]  # noqa: B009
    try:
        for part, _ in before:
            setattr(part, "check_finite", False)  # noqa: B010  (an attribute of some modules only)
        yield
    finally:
        for part, value in before:
            setattr(part, "check_finite", value)  # noqa: B010


def _name_of(thing: Any) -> str:
    if isinstance(thing, str):
        return thing
    if isinstance(thing, Loss):
        with suppress(MetricgradError):  # a form made by hand has a repr only
            return json.dumps(thing.described(), sort_keys=True)
    return repr(thing) if isinstance(thing, nn.Module) else getattr(thing, "__qualname__", type(thing).__name__)


def _check_counts(**values: object) -> None:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise MetricgradError(f"{name} is {value!r}; expected a whole number above 0")


def _check_threshold(threshold: object) -> None:
    if threshold not in ("auto", None) and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise MetricgradError(f"threshold is {threshold!r}; expected 'auto', a number on the logit scale, or None")
