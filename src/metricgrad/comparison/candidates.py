"""The rows of a comparison: losses by name or by factory, their roles, and the controls that belong to them."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from metricgrad.comparison.catalogue import fitting_of, role_of, space_of
from metricgrad.comparison.runs.trainings import Train, average_of, by_learner, on_loss
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.losses.registry import Range, Role
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.systems.by_name import find, make_loss
from metricgrad.systems.reloss import FittedNetwork
from metricgrad.tasks.task import Task
from metricgrad.training.batches import Data
from metricgrad.training.options import made_by
from metricgrad.training.run_folder.code_checksum import code_checksum
from metricgrad.training.run_folder.fingerprints import describe_data

Given = str | nn.Module | Callable[[], nn.Module]
BLIND = "margin"


@dataclass(frozen=True)
class Candidate:
    """One row of a comparison: how a run of it is trained, and what is tuned.

    Attributes:
        name: in the table.
        role: candidate or control.
        standard: whether people use it today.
        space: what is tuned.
        train: one run.
        what: tells it from another loss of the same name.
        code: likewise of one that is not ours, whose body may have changed.
        controls: the entries a comparison runs beside it.
        shows: of a control, what a loss that beats it shows.
        claims: whether a gain of it is said to come of the metric, or of what it learns, which its controls test.
    """

    name: str
    role: Role
    standard: bool
    space: dict[str, Range]
    train: Train
    what: str = ""
    code: str = ""
    controls: tuple[str, ...] = (BLIND,)
    shows: str = ""
    claims: bool = True


def candidates(losses: Sequence[Given], task: Task, metric: Metric, *, controls: bool) -> list[Candidate]:
    """The rows asked for; the task's standard loss where none is among them; the controls each new loss has.

    Raises:
        MetricgradError: for no loss, an unknown one, one that does not serve the task, or two of one name.
    """
    rows = [_candidate(loss, task, metric) for loss in losses]
    if not rows:
        raise MetricgradError("losses is empty; name at least one, such as losses=['cross_entropy', 'uniloss']")
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MetricgradError(
            f"losses has {', '.join(twice)} more than once; pass functions, whose names are those of the rows: "
            "def half(): return MyLoss(0.5)"
        )
    if not any(row.standard for row in rows):
        rows.insert(0, _candidate(task.standard, task, metric))
    new = [row for row in rows if row.role == "candidate" and row.claims and not row.standard]
    wanted = dict.fromkeys(name for row in new for name in row.controls)
    if controls:
        missing = [name for name in wanted if name not in names and task.kind in find(name)[0].kinds]
        rows += [_candidate(name, task, metric) for name in missing]
    return rows


def average(row: Candidate, models: int) -> Candidate:
    """The average of several trainings of a row, at its parameters; it has no trials of its own."""
    train = average_of(row.train, models)
    return replace(row, name=f"{row.name} x{models}", standard=False, train=train, controls=(), claims=False)


def averaged_loss(name: str) -> tuple[str, int]:
    """The loss that an :func:`average` is of, and of how many trainings; one for any other name.

    Example:
        >>> averaged_loss("uniloss x3"), averaged_loss("uniloss")
        (('uniloss', 3), ('uniloss', 1))
    """
    found = re.fullmatch(r"(.+) x(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 1)


def maker(loss: Given, task: Task, metric: Metric) -> Callable[[dict[str, float], int, Data], nn.Module]:
    """What makes the loss of one run, from its parameters, a seed and the training part.

    Raises:
        MetricgradError: for what is neither a name, a module nor a factory of modules.
    """
    if isinstance(loss, str):
        own = tuple(space_of(loss, metric))
        if (fit := fitting_of(loss)) is not None:
            return _learner(loss, fit, task, metric, own)
        return lambda params, seed, train: make_loss(loss, metric, seed=seed, **{k: params[k] for k in own})
    if isinstance(loss, nn.Module):
        copied = copy.deepcopy(loss)
        return lambda params, seed, train: copy.deepcopy(copied)
    if callable(loss):
        made = partial(made_by, loss, f"loss {_name(loss)!r}")
        return lambda params, seed, train: made()
    raise MetricgradError(f"losses takes names, modules and factories of modules, not {type(loss).__name__}")


def _candidate(loss: Given, task: Task, metric: Metric) -> Candidate:
    if isinstance(loss, str) and (learner := task.learners.get(loss)):
        return Candidate(loss, "candidate", True, dict(learner.space), by_learner(learner), controls=(), claims=False)
    shared = {"lr": task.lr, "weight_decay": task.weight_decay}
    if isinstance(loss, str):
        task.check_loss(loss)
        entry, _ = find(loss)
        return Candidate(
            name=loss,
            role=role_of(loss, metric),
            standard=entry.standard,
            space={**shared, **space_of(loss, metric)},
            train=on_loss(task, maker(loss, task, metric)),
            controls=entry.controls,
            shows=entry.shows,
        )
    made = maker(loss, task, metric)
    what: Any = loss if isinstance(loss, nn.Module) else made({}, 0, None)
    if isinstance(what, Form):
        raise MetricgradError(f"losses has the form {type(what).__name__}; make a loss of it: lambda: mg.Loss(form)")
    code = code_checksum([loss, what])
    return Candidate(_name(loss), "candidate", False, shared, on_loss(task, made), repr(what), code)


def _name(loss: Any) -> str:
    return type(loss).__name__ if isinstance(loss, nn.Module) else getattr(loss, "__name__", type(loss).__name__)


def _learner(
    loss: str, fit: Callable[..., FittedNetwork], task: Task, metric: Metric, own: tuple[str, ...]
) -> Callable[[dict[str, float], int, Data], nn.Module]:
    entry, fixed = find(loss)
    after = {name: fixed.pop(name) for name in entry.space if name in fixed}  # what may be tuned follows the fit
    trained_on = as_metric(fixed.pop("metric")) if "metric" in fixed else metric
    balanced = {} if task.per_class is None else {"per_class": task.per_class}
    last: dict[str, FittedNetwork] = {}  # trials share it: they have one training part

    def learn(params: dict[str, float], seed: int, train: Data) -> nn.Module:
        key = f"{seed} {describe_data(train)}"
        if key not in last:
            last.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the comparison itself says whether the loss is better
                last[key] = fit(
                    trained_on, task.model, train, batch_size=task.batch_size, seed=seed, **balanced, **fixed
                )
        return last[key].anchored(**after, **{name: params[name] for name in own}, measured=False)

    return learn
