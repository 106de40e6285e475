"""What is known of a task before its study: its kind, its classes, and how its parts fit a first training."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.comparison.ladder import Situation
from metricgrad.comparison.runs.agenda import TUNING_SEED
from metricgrad.comparison.runs.proposals import defaults
from metricgrad.comparison.runs.trainings import Training, on_loss
from metricgrad.metrics.metric import Metric
from metricgrad.systems.by_name import find, make_loss
from metricgrad.tasks.task import Task
from metricgrad.training.batches import Data, as_tensor, is_pair

_PARTS = 20


class Look(TypedDict):
    """The mean standard loss of a trained network on two parts, the standard error of the second, and the seconds."""

    train_loss: float
    valid_loss: float
    valid_error: float
    seconds: float


def look(task: Task, metric: Metric) -> Look | None:
    """Train the standard loss once, at its first guesses, and see where it fits; None where nobody would ask.

    It is asked whether the validation part looks cleaner than the training part, of problems that AdaLFL serves.
    """
    train, valid, _ = task.load(TUNING_SEED)
    if task.clean_valid or task.kind not in find("adalfl")[0].kinds or not is_pair(train) or not is_pair(valid):
        return None
    started = time.perf_counter()
    params = defaults({"lr": task.lr, "weight_decay": task.weight_decay})
    with kept_all_randomness():
        fitted = on_loss(task, lambda params, seed, part: make_loss(task.standard, metric, seed=seed))
        result = fitted(Training(params, TUNING_SEED, train, valid, metric, "none")).result
        loss = make_loss(task.standard, metric)
        means = [_means(loss, result.predict_scores(part), _targets(part)) for part in (train, valid)]
    (train_loss, _), (valid_loss, error) = means
    seconds = time.perf_counter() - started
    return {"train_loss": train_loss, "valid_loss": valid_loss, "valid_error": error, "seconds": seconds}


def situation(task: Task, metric: Metric, looked: Look | None) -> Situation:
    """What the ladder goes by.

    Args:
        task: what is compared on.
        metric: what decides.
        looked: of :func:`look`.
    """
    found = Situation(
        task.kind, task.standard, metric, classes=_classes(task, metric), clean_valid=task.clean_valid,
        learners=tuple(task.learners),
    )  # fmt: skip
    if looked is None:
        return found
    train_loss, valid_loss, error = looked["train_loss"], looked["valid_loss"], looked["valid_error"]
    return replace(found, train_loss=train_loss, valid_loss=valid_loss, valid_error=error)


def _classes(task: Task, metric: Metric) -> tuple[int, int] | None:
    """Items of the smallest and of the largest class to train on; None where an item has no one class."""
    train, _, _ = task.load(TUNING_SEED)
    if task.kind not in ("binary", "multiclass") or not is_pair(train):
        return None
    targets = _targets(train)
    if targets.ndim != 1:
        return None
    if (ignored := metric.class_targets.ignore_index) is not None:
        targets = targets[targets != ignored]
    counts = targets.long().unique(return_counts=True)[1]
    return int(counts.min()), int(counts.max())


def _targets(part: Data) -> Tensor:
    return as_tensor(part[1])


def _means(loss: torch.nn.Module, scores: Tensor, targets: Tensor) -> tuple[float, float]:
    """Mean loss over parts of the rows drawn at random, and its standard error."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = [float(loss(scores[some], targets[some])) for some in order.tensor_split(_PARTS) if len(some)]
    mean = math.fsum(parts) / len(parts)
    variance = math.fsum((part - mean) ** 2 for part in parts) / max(1, len(parts) - 1)
    return mean, math.sqrt(variance / len(parts))
