"""ReLoss and cross-entropy on two data sets and two networks each, fitted on one network and used on the other.

Rows: cross-entropy; ReLoss fitted on the network that it trains; fitted on the other; fitted there with nothing beside
it (`anchor=0`), by the paper's objective (rank correlation) and by the one the paper compares with (the metric's
value); and the released code's fit. Fits are to scores of a short run of cross-entropy on the run's own training part.
Every row has a rate of its own, chosen on validation at a seed of its own from a grid that goes on while its best is at
an edge. Roughness is the mean change of the validation accuracy from one epoch to the next in the second half.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

import metricgrad as mg
from adalfl_settings import settings
from common import Store, arguments, interval, paired
from metricgrad.systems.reloss import ReLoss
from metricgrad.training.reloss_of_task import fitted_on_training
from tuning import Runs, chosen

SEEDS, TUNING_SEED, EPOCHS, BATCH = 4, 1000, 12, 64
FIRST = (0.01, 0.03, 0.1)
CELLS = {"mnist": ("mnist", "mnist-cnn"), "fashion": ("fashion", "fashion-cnn")}  # of a data set, both networks
ROWS: dict[str, tuple[bool, dict[str, Any]] | None] = {  # whether fitted on the other network, and how
    "cross-entropy": None,
    "ReLoss": (False, {}),
    "ReLoss, fitted on the other network": (True, {}),
    "ReLoss, nothing beside it": (False, {"anchor": 0.0}),
    "the metric's value, nothing beside it": (False, {"anchor": 0.0, "objective": "value"}),
    "ReLoss, paper=True": (False, {"paper": True}),
}


@functools.cache
def fitted(setting: str, row: str, seed: int, folder: Path) -> ReLoss:
    """The loss of a row, from scores of the setting's network."""
    known, found = settings(folder)[setting], ROWS[row]
    assert found is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it ranks no better than cross-entropy is what the table shows
        return fitted_on_training(
            mg.as_metric("accuracy"), known.model, known.load(seed)[0], batch_size=BATCH, seed=seed, **found[1]
        )


def run(data: str, place: int, row: str, rate: float, seed: int, folder: Path) -> dict[str, Any]:
    """Validation accuracy by epoch, and the test accuracy of the last."""
    setting, found = CELLS[data][place], ROWS[row]
    known = settings(folder)[setting]
    (inputs, targets), valid, test = known.load(seed)
    source = CELLS[data][1 - place] if found is not None and found[0] else setting
    loss = nn.CrossEntropyLoss() if found is None else fitted(source, row, seed, folder)
    torch.manual_seed(seed)
    model = known.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    curve = []
    for _ in range(EPOCHS):
        for index in torch.randperm(len(targets)).split(BATCH):
            value = loss(model(inputs[index]), targets[index])
            if not bool(value.isfinite()):
                return {"valid": [0.0], "test": 0.0}
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        curve.append(1 - known.score(model, valid) / 100)
    return {"valid": curve, "test": 1 - known.score(model, test) / 100}


def table(data: str, place: int, runs: Runs, folder: Path) -> dict[str, Any]:
    """Every row of one network."""
    out: dict[str, Any] = {}
    setting = CELLS[data][place]
    for row in ROWS:

        def valid(rates: list[float], row: str = row) -> list[float]:
            asked = {
                f"{setting}/{row}/{rate:g}/{TUNING_SEED}": (data, place, row, rate, TUNING_SEED, folder)
                for rate in rates
            }
            return [found["valid"][-1] for found in runs.get(asked)]

        rate = chosen(valid, FIRST)
        asked = {f"{setting}/{row}/{rate:g}/{s}": (data, place, row, rate, s, folder) for s in range(SEEDS)}
        found = runs.get(asked)
        late = [torch.tensor(made["valid"][EPOCHS // 2 :]).diff().abs() for made in found]
        ends = [made["test"] for made in found]
        out[row] = {
            "rate": rate, "test": interval(ends), "ends": ends,
            "roughness": interval([float(steps.mean()) if len(steps) else float("nan") for steps in late]),
        }  # fmt: skip
        out[row]["difference"] = paired(ends, out["cross-entropy"]["ends"])
    return out


def main() -> None:
    """Run what is missing, write the JSON."""
    given = arguments(__doc__, [*CELLS], processes=True)
    store = Store("reloss_networks", SEEDS)
    runs = Runs(store, run, given.processes)
    tables = {
        setting: table(data, place, runs, given.data)
        for data in given.only
        for place, setting in enumerate(CELLS[data])
    }
    store.finish(tables=tables, epochs=EPOCHS)


if __name__ == "__main__":
    main()
