"""Training on ReLoss against tuned cross-entropy, the objective it beats, and itself fitted on other data.

Every loss has the same trials; the trial best on validation is trained again on ten fresh draws of the split. A loss
fitted on the run's own training part is fitted anew in every run, and the seconds of recording and fitting count as
the run's. Roughness is the mean change of the validation metric from one epoch to the next in the second half of a
training with the chosen parameters.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from common import HERE, Store, arguments, interval, paired
from metricgrad import Metric, ReLoss, Task, compare
from metricgrad.comparison.candidates import maker
from metricgrad.comparison.catalogue import FITTED_ON_TRAINING
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.systems.by_name import REGISTRY
from metricgrad.tasks.registry import get_task
from metricgrad.training.reloss_of_task import fitted_on_training
from training import Recipe, train
from where_it_pays import SMOOTHED, STUDIES

TRIALS, SEEDS = 6, 10
OVERLAP = 1 / 3  # test rows for each training row: every seed draws from the same data
CE, RELOSS, PURE, VALUE = "cross_entropy", "reloss", "reloss:anchor=0.0", "reloss_value"


def by_value(metric: Metric, model: Callable[[], nn.Module], data: Any, **options: Any) -> ReLoss:
    """As ``reloss``, but the metric's value is regressed."""
    return fitted_on_training(metric, model, data, objective="value", **options)


def _moved(source: str, metric: Metric, *, anchor: float) -> ReLoss:
    loss = copy.deepcopy(_fitted_there(source, metric.spec or metric.name))
    assert isinstance(loss.form, NetworkForm)
    loss.form.anchor.fill_(anchor)
    return loss


@functools.cache
def _fitted_there(source: str, metric: str) -> ReLoss:
    task = get_task(source)
    with isolate_rng():
        judged_by = task.judged_by(metric)
        return fitted_on_training(judged_by, task.model, task.load(0)[0], batch_size=task.batch_size, seed=0)


def from_fashion(metric: Metric, model: Any, data: Any, *, batch_size: int, seed: int, anchor: float) -> ReLoss:
    """A loss fitted on Fashion-MNIST, whatever the task."""
    return _moved("fashion", metric, anchor=anchor)


def from_digits(metric: Metric, model: Any, data: Any, *, batch_size: int, seed: int, anchor: float) -> ReLoss:
    """A loss fitted on the digits, whatever the task."""
    return _moved("digits", metric, anchor=anchor)


def _variant(name: str, fit: Callable[..., ReLoss], summary: str) -> None:
    REGISTRY[name] = dataclasses.replace(REGISTRY[RELOSS], summary=summary)
    FITTED_ON_TRAINING[name] = fit


_variant(VALUE, by_value, "a network fitted to the metric's value")
_variant("reloss_from_fashion", from_fashion, "fitted on Fashion-MNIST")
_variant("reloss_from_digits", from_digits, "fitted on the digits")
CASES: dict[str, tuple[Task, str, list[str], str]] = {
    "digits-accuracy": (
        get_task("digits"), "accuracy", [CE, SMOOTHED, RELOSS, PURE, VALUE, "reloss_from_fashion"],
        "accuracy, scikit-learn's digits",
    ),
    "digits-rare-ap": (
        get_task("digits-rare"), "average_precision", [CE, RELOSS, PURE, VALUE],
        "average precision, the digit 8 at 3 % positives",
    ),
    "fashion-accuracy": (
        get_task("fashion"), "accuracy", [CE, SMOOTHED, RELOSS, "reloss_from_digits"],
        "accuracy, 20,000 images of Fashion-MNIST",
    ),
    "fashion-macro-f1": (
        STUDIES["fashion-macro-f1"][0], "macro_f1",
        [CE, "cross_entropy:weighting=balanced", RELOSS, "reloss_from_digits"],
        "macro-F1, Fashion-MNIST thinned geometrically 50:1",
    ),
}  # fmt: skip
SMOOTHNESS = ("digits-accuracy", "digits-rare-ap")


def roughness(case: str, loss: str, params: dict[str, float], seed: int) -> float:
    """Mean absolute change of the validation metric between epochs, over the second half of a training."""
    task, metric, losses, _ = CASES[case]
    parts = task.load(seed)
    judged_by = task.judged_by(metric)
    given = next(one for one in losses if getattr(one, "__name__", one) == loss)
    with isolate_rng():
        torch.manual_seed(seed)
        made = maker(given, task, judged_by)(params, seed, parts[0])

        def optimizer(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.AdamW(weights, lr=params["lr"], weight_decay=params["weight_decay"])

        recipe = Recipe(task.model, optimizer, task.epochs, task.batch_size)
        epochs = train(recipe, made, parts, [metric], seed)
    values = torch.tensor([epoch.valid[metric] for epoch in epochs[task.epochs // 2 :]])
    return float(values.diff().abs().mean())


def _smoothness(case: str, chosen: dict[str, dict[str, float]], store: Store, shown: Sequence[str]) -> dict[str, Any]:
    rough: dict[str, list[float]] = {}
    for loss in shown:
        rough[loss] = []
        for seed in range(SEEDS):
            key = f"{case}/{loss}/{seed}"
            value = store.get(key)
            rough[loss].append(store.add(key, roughness(case, loss, chosen[loss], seed)) if value is None else value)
    return {
        "roughness": {loss: interval(values) for loss, values in rough.items()},
        "value_minus_reloss": paired(rough[VALUE], rough[RELOSS], OVERLAP),
    }


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("reloss_training", SEEDS)
    found: dict[str, Any] = {}
    for name, (task, metric, losses, about) in CASES.items():
        out = HERE / "runs" / f"reloss-{name}"
        table = compare(task, metric=metric, losses=losses, trials=TRIALS, seeds=SEEDS, out=out)
        tests = {loss: [r["test"] for r in table.runs if r["loss"] == loss] for loss in losses}
        seconds = {loss: sum(r["seconds"] for r in table.runs if r["loss"] == loss) / SEEDS for loss in losses}
        chosen = {r["loss"]: r["params"] for r in table.runs}
        found[name] = {
            "about": about, "metric": metric, "summary": [dict(row) for row in table.summary], "notes": table.notes,
            "tests": tests, "seconds": seconds, "chosen": chosen,
            "over_value": paired(tests[RELOSS], tests[VALUE], OVERLAP) if VALUE in tests else None,
            "smooth": _smoothness(name, chosen, store, [CE, RELOSS, VALUE]) if name in SMOOTHNESS else None,
        }  # fmt: skip
        store.finish(trials=TRIALS, cases=found)


if __name__ == "__main__":
    main()
