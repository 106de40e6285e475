"""The rows of a comparison: losses by name or by factory, their roles, and the controls that belong to them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from metricgrad.comparison.catalogue import fitting_of, role_of, space_of
from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import Range, Role
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.systems.by_name import find, make_loss
from metricgrad.tasks.task import Task
from metricgrad.training.batches import Data
from metricgrad.training.options import made_by

Given = str | nn.Module | Callable[[], nn.Module]
BLIND = "margin"


@dataclass(frozen=True)
class Candidate:
    """One loss of a comparison: how it is built from its tuned parameters, and what is tuned.

    Attributes:
        name: in the table.
        role: candidate or control.
        standard: whether people use it today.
        space: what is tuned.
        make: from parameters and a seed, for losses that need no data.
        what: tells it from another loss of the same name.
        controls: the entries a comparison runs beside it.
        shows: of a control, what a loss that beats it shows.
        learn: from a seed and the training part, for losses that are fitted first; :meth:`of` then applies parameters.
    """

    name: str
    role: Role
    standard: bool
    space: dict[str, Range]
    make: Callable[[dict[str, float], int], nn.Module]
    what: str = ""
    controls: tuple[str, ...] = (BLIND,)
    shows: str = ""
    learn: Callable[[dict[str, float], int, Data], nn.Module] | None = None

    def of(self, params: dict[str, float], seed: int, train: Data) -> nn.Module:
        """The loss of one run on this training part."""
        return self.make(params, seed) if self.learn is None else self.learn(params, seed, train)


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
        raise MetricgradError(f"losses has {', '.join(twice)} more than once; give each factory a __name__ of its own")
    if not any(row.standard for row in rows):
        rows.insert(0, _candidate(task.standard, task, metric))
    new = [row for row in rows if row.role == "candidate" and not row.standard]
    wanted = dict.fromkeys(name for row in new for name in row.controls)
    if controls:
        missing = [name for name in wanted if name not in names and task.kind in find(name)[0].kinds]
        rows += [_candidate(name, task, metric) for name in missing]
    return rows


def _candidate(loss: Given, task: Task, metric: Metric) -> Candidate:
    shared = {"lr": task.lr, "weight_decay": task.weight_decay}
    if isinstance(loss, str):
        task.check_loss(loss)
        own = space_of(loss, metric)
        fit = fitting_of(loss)
        return Candidate(
            name=loss,
            role=role_of(loss, metric),
            standard=find(loss)[0].standard,
            space={**shared, **own},
            make=lambda params, seed: make_loss(loss, metric, seed=seed, **{k: params[k] for k in own}),
            controls=find(loss)[0].controls,
            shows=find(loss)[0].shows,
            learn=None if fit is None else _learner(loss, fit, task, metric, tuple(own)),
        )
    if isinstance(loss, nn.Module):
        copied = copy.deepcopy(loss)
        return Candidate(
            type(loss).__name__, "candidate", False, shared, lambda params, seed: copy.deepcopy(copied), repr(loss)
        )
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        made = partial(made_by, loss, f"loss {name!r}")
        return Candidate(name, "candidate", False, shared, lambda params, seed: made(), repr(made()))
    raise MetricgradError(f"losses takes names, modules and factories of modules, not {type(loss).__name__}")


def _learner(
    loss: str, fit: Callable[..., nn.Module], task: Task, metric: Metric, own: tuple[str, ...]
) -> Callable[[dict[str, float], int, Data], nn.Module]:
    fixed = find(loss)[1]
    trained_on = as_metric(fixed.pop("metric")) if "metric" in fixed else metric
    balanced = {} if task.per_class is None else {"per_class": task.per_class}

    def learn(params: dict[str, float], seed: int, train: Data) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the comparison itself says whether the loss is better
            return fit(
                trained_on, task.model, train, batch_size=task.batch_size, seed=seed,
                **balanced, **{k: params[k] for k in own}, **fixed,
            )  # fmt: skip

    return learn
