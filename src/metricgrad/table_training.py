"""Train the model of a table that is delivered: on a loss by name, or as a comparison recommends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.comparison.candidates import averaged_loss, candidates, maker
from metricgrad.comparison.records import locked
from metricgrad.comparison.report.study_file import About, read_study
from metricgrad.comparison.runs.trainings import seeds_of
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.tables.asked import NAMES, changes, column_changes
from metricgrad.tables.boosting import SPACE, fit_trees
from metricgrad.tables.model import TableModel
from metricgrad.tables.model_folder import load_table_model, save_table_model
from metricgrad.tables.preprocessing import FILE, Layout
from metricgrad.tables.task import TableTask
from metricgrad.tables.units import order_alone
from metricgrad.training.average import averaged
from metricgrad.training.batches import context_of
from metricgrad.training.delivery import Asked, Delivery, check_decision, describe_decision
from metricgrad.training.fit import fit
from metricgrad.training.model_folder import CARD
from metricgrad.training.network_folder import finite
from metricgrad.training.result import FitResult
from metricgrad.training.run_folder import files, fingerprints

TREES = "lightgbm"
_RUN, _PARTS = "training", ("train", "valid", "test")
_SEEN = (
    "the comparison chose the loss and its parameters on other draws of these rows, so that this value flatters a "
    "little; judge by rows that came later, or give a column of parts or times"
)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        loss: by name, or ``"lightgbm"``.
        params: learning rate, weight decay and whatever else is tuned of it; the defaults of those not named.
        decision: as in :func:`metricgrad.fit`.
        why: in words.
        study: what is known of the comparison that chose it; None where none did.
    """

    loss: str = "uniloss"
    params: Mapping[str, float] = field(default_factory=dict)
    decision: Asked = "auto"
    why: str = "as asked for"
    study: About | None = None


def train_table(
    task: TableTask,
    *,
    loss: str | None = None,
    like: str | os.PathLike[str] | None = None,
    decision: Asked | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = True,
    about: Mapping[str, Any] | None = None,
) -> TableModel:
    """Train the model of a table, and write it as a folder that :func:`metricgrad.load_model` opens.

    It is trained on the training rows of draw ``seed``, its epoch and its decision are chosen by the validation rows,
    and it is judged once by the test rows, which no choice of this call has seen: ``card["test"]``. A comparison that
    draws its parts anew with every seed has seen most of them in other draws: with ``like`` of such a one
    ``card["caution"]`` says so; rows that came later, or a column of parts or times, judge without that. A training
    that was killed goes on from its last whole epoch when the same call is made again, and one that ended is returned
    as it is.

    Args:
        task: made by :func:`metricgrad.task_of_table`.
        loss: a name from ``metricgrad losses``, at the task's default learning rate, or ``"lightgbm"``; ``"uniloss"``
            where nothing is said.
        like: the folder of a finished comparison: the loss that it recommends, the parameters that were tuned for it,
            and the decision.
        decision: as in :func:`metricgrad.fit`; by default ``"auto"``, or the comparison's.
        out: the folder of the model; None writes nothing.
        seed: of the draw of the parts and everything else random.
        progress: a bar on stderr.
        about: more for the card, JSON-able.

    Raises:
        MetricgradError: for a loss that does not serve the task, a folder without a finished comparison by this metric,
            and an ``out`` that holds another model.

    Example:
        >>> import pandas as pd, metricgrad as mg
        >>> frame = pd.DataFrame({"age": [40, 51, 62, 30] * 20, "left": ["no", "yes", "yes", "no"] * 20})
        >>> task = mg.task_of_table(frame, target="left", metric="f1")
        >>> model = mg.train_table(task, loss="cross_entropy", progress=False)
        >>> model.predict(frame).shape
        (80,)
    """
    if not isinstance(cast(object, task), TableTask):
        raise MetricgradError(
            f"task is a {type(task).__name__}; pass mg.task_of_table(table, target=..., metric=...), of a file or frame"
        )
    metric = _metric(task)
    if loss is not None and like is not None:
        raise MetricgradError(f"loss is {loss!r} and like is {str(like)!r}; say one of them")
    recipe = Recipe(loss or Recipe.loss) if like is None else recommended(like, metric)
    if decision is not None:
        check_decision(decision)
        recipe = replace(recipe, decision=decision)
    asked = _asked(task, recipe, metric, seed)
    if out is None:
        return _model(task, recipe, seed, _trained(task, recipe, seed, None, progress), {"asked": asked})
    place = Path(out)
    if not (place / CARD).exists():
        with locked(place / _RUN):
            if not (place / CARD).exists():  # another process may have written it until now
                result = _trained(task, recipe, seed, place / _RUN, progress)
                save_table_model(_model(task, recipe, seed, result, {"asked": asked, **(about or {})}), place)
    _tidy(place)
    return _there(task, place, asked, metric)


def recommended(folder: str | os.PathLike[str], metric: Metric) -> Recipe:
    """What a finished comparison recommends.

    Args:
        folder: its ``out``.
        metric: what decides; a comparison by another one recommends nothing.

    Raises:
        MetricgradError: for a folder without a finished comparison, or one by another metric.
    """
    table, study = read_study(folder)
    if table.metric != metric.name:
        raise MetricgradError(
            f"{str(folder)!r} compares losses by {table.metric!r:.60}, and the metric here is {metric.name!r}; "
            "compare by this one, or name a loss"
        )
    said = table.recommendation
    params = [run["params"] for run in table.runs if run["loss"] == said["loss"]]
    if not params:
        raise MetricgradError(f"{str(folder)!r} has no run of {said['loss']!r:.60}, which it recommends; compare anew")
    return Recipe(said["loss"], params[0], said["decision"], said["why"], study)


def _asked(task: TableTask, recipe: Recipe, metric: Metric, seed: int) -> dict[str, Any]:
    """What tells one model from another, JSON-able."""
    parts = dict(zip(_PARTS, map(fingerprints.describe_data, task.load(seed)), strict=True))
    return {
        "target": task.schema.target.name,
        "metric": metric.spec or metric.name,
        "loss": recipe.loss,
        "params": dict(recipe.params),
        "decision": describe_decision(recipe.decision),
        "seed": seed,
        **parts,
    }


def _trained(task: TableTask, recipe: Recipe, seed: int, out: Path | None, progress: bool) -> FitResult:
    """The network, the trees, or the average of several networks, with the decision."""
    loss, models = averaged_loss(recipe.loss)
    if models == 1:
        return _trained_once(task, recipe, seed, seed, out, progress)
    one, valid = replace(recipe, loss=loss), task.load(seed)[1]
    results = [
        _trained_once(task, one, seed, start, out and out / str(number), progress)
        for number, start in enumerate(seeds_of(seed, models))
    ]
    return averaged(results, valid, Delivery(task.judged_by(), recipe.decision, seed, context_of(valid)))


def _trained_once(task: TableTask, recipe: Recipe, draw: int, seed: int, out: Path | None, progress: bool) -> FitResult:
    """The network or the trees, with the decision."""
    train, valid, _ = task.load(draw)
    metric = task.judged_by()
    if recipe.loss == TREES:
        layout, target = Layout.of(task.schema), task.schema.target
        return fit_trees(
            train, valid, layout=layout, target=target, metric=metric, decision=recipe.decision, seed=seed,
            params=_known(recipe, SPACE),
        )  # fmt: skip
    row = next(row for row in candidates([recipe.loss], task, metric, controls=False) if row.name == recipe.loss)
    params = {name: bounds.default for name, bounds in row.space.items()} | _known(recipe, row.space)
    with kept_all_randomness():
        torch.manual_seed(seed)
        network = task.model()
        loss = maker(recipe.loss, task, metric)(params, seed, train)
    return fit(
        network, train, valid, metric=metric, loss=loss, out=out, lr=params["lr"],
        weight_decay=params["weight_decay"], epochs=task.epochs, batch_size=task.batch_size, seed=seed,
        progress=progress, device=task.device, decision=recipe.decision,
    )  # fmt: skip


def _metric(task: TableTask) -> Metric:
    """As it was given; :meth:`TableTask.judged_by` has values in the unit of the file, which a model sees to itself."""
    assert task.metric is not None
    return as_metric(task.metric)


def _known(recipe: Recipe, space: Mapping[str, Any]) -> dict[str, float]:
    if unknown := [name for name in recipe.params if name not in space]:
        raise MetricgradError(f"loss {recipe.loss!r} has no {unknown[0]!r:.40} to set; there are {', '.join(space)}")
    return dict(recipe.params)


def _model(task: TableTask, recipe: Recipe, seed: int, result: FitResult, about: dict[str, Any]) -> TableModel:
    """What is delivered, judged by the test part."""
    test = result.evaluate_both(task.load(seed)[2])
    card = {
        "task": task.name,
        "data": task.origin,
        **about,
        "why": recipe.why,
        "caution": _caution(task, recipe),
        "valid": finite(result.valid),
        "valid_undecided": finite(result.valid_undecided),
        "test": finite(test.decided),
        "test_undecided": finite(test.undecided),
        "understood": task.describe(),
        "options": task.options,
        "columns": dict(task.columns),
        "history": [{name: finite(value) for name, value in row.items()} for row in result.history],
    }
    return TableModel(task.preprocessing(seed), result.model, result.decision, _metric(task), card)


def _caution(task: TableTask, recipe: Recipe) -> str | None:
    """What is to be known of the model's answers, and of the comparison that recommends it."""
    told = [order_alone(task.schema.target, _metric(task))]
    if recipe.study is not None:
        if found := _otherwise(task, recipe.study):
            told.append(f"the comparison was told or saw its table otherwise: {'; '.join(found)}")
        told.append(_SEEN if task.redraws else None)
    return ". ".join(one for one in told if one) or None


def _otherwise(task: TableTask, study: About) -> list[str]:
    """What differs from the comparison's table by name; how many rows there are is no difference."""
    then, now = study["options"], task.options
    if not study["columns"]:
        return ["it does not say what it was told"]
    found = changes(then, now, [name for name in NAMES if name not in ("positive", "classes")])
    if study["classes"] != list(task.class_names):
        of = (", ".join(names) or "none" for names in (study["classes"], task.class_names))
        found.append("the classes were {} and are now {}".format(*of))
    dropped = {*then.get("drop", ()), *now.get("drop", ()), *map(str, then.values()), *map(str, now.values())}
    return found + column_changes(study["columns"], task.columns, dropped)


def _there(task: TableTask, place: Path, asked: dict[str, Any], metric: Metric) -> TableModel:
    """The model that the same call wrote before."""
    model = load_table_model(place, metric=metric)
    saved = {
        name: value if isinstance(value := model.card.get(name), dict) else {}
        for name in ("options", "columns", "asked")
    }
    if fingerprints.differences(saved["asked"], asked):
        raise MetricgradError(
            f"out={str(place)!r} holds another model: {_unlike(task, saved, asked)}. Choose another out, or remove it"
        )
    return model


def _unlike(task: TableTask, saved: dict[str, Any], asked: dict[str, Any]) -> str:
    """What differs from what a model was trained on and by: what was said, or else the rows."""
    then, now = ({name: value for name, value in one.items() if name not in _PARTS} for one in (saved["asked"], asked))
    told = [found] if (found := fingerprints.differences(then, now)) else []
    other_rows = "it was trained on other rows"
    if not saved["columns"]:  # of a version that did not keep what it was told
        other_rows += ", or told something else of the same table"
    else:
        options, other = saved["options"], task.options
        told += changes(options, other, [name for name in NAMES if name != "target"])
        passed = {*options.get("drop", ()), *other.get("drop", ())}
        told += column_changes(saved["columns"], task.columns, passed)
    return "; ".join(told) or other_rows


def _tidy(place: Path) -> None:
    """Remove what the training needed, and what a process that was killed had begun to write."""
    for run in (*(place / _RUN).glob("[0-9]"), place / _RUN):
        with suppress(OSError, MetricgradError):  # the model is whole; the same call tidies again
            files.clear(run)
            (run / ".lock").unlink(missing_ok=True)
            run.rmdir()
    for name in (CARD, FILE, "model*"):
        for part in place.glob(f"{name}.*.part"):
            with suppress(OSError):
                part.unlink()
