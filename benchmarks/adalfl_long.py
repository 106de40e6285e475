"""AdaLFL over 10,000 steps of MNIST, as its paper trains: against cross-entropy at the authors' rate and at its best.

The authors' code of neighbouring papers trains MNIST for 10,000 steps of plain SGD at 0.01 and batches of 128, untuned;
the paper starts offline for 2,500 rounds, each of a new model, and moves the loss at 1e-5 afterwards. Rows at 0.01 are
that; tuned rows choose a rate on rows nobody trains on, after 3,000 steps at a draw of its own, from a grid that goes
on while its best is at an edge. `offline only` is the paper's loss where the offline start left it. AdaLFL learns from
a thousand rows beside those it trains on; cross-entropy trains on them too. Test error on the official test part, on
the way for the curves and once at the end.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

import metricgrad as mg
from adalfl_settings import batches, images_of_mnist, mlp_of_images, scaled, small_cnn
from common import RESULTS, Store, arguments, interval, paired
from metricgrad.tasks.split import Part
from tuning import Runs, chosen

SEEDS, TUNING_SEED, STEPS, TUNING_STEPS, OFFLINE, BATCH, EVERY = 4, 1000, 10_000, 3_000, 2_500, 128, 250
TRAIN, VALID, AUTHORS = 8000, 1000, 0.01
FIRST = (0.03, 0.1, 0.3)
MODELS = {"mlp": mlp_of_images, "cnn": small_cnn}
LOSSES = {  # row to the loss it trains on, and whether its rate is tuned
    "cross-entropy at 0.01": ("cross_entropy", False),
    "cross-entropy, tuned": ("cross_entropy", True),
    "AdaLFL, the paper's, at 0.01": ("paper", False),
    "AdaLFL, the paper's, tuned": ("paper", True),
    "offline only, at 0.01": ("offline_only", False),
    "AdaLFL at 0.01": ("anchored", False),
    "AdaLFL, tuned": ("anchored", True),
}


def load(folder: Path, seed: int) -> tuple[Part, Part, Part, Part]:
    """Rows that are trained on, those an aligner learns from, those that choose a rate, and the test part."""
    inputs, labels, test_inputs, test_labels = images_of_mnist(folder)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cuts = order[:TRAIN], order[TRAIN : TRAIN + VALID], order[TRAIN + VALID :]
    train, valid, chooses = ((scaled(inputs[cut]), labels[cut].long()) for cut in cuts)
    return train, valid, chooses, (scaled(test_inputs), test_labels.long())


def loss_named(name: str, model: str, rate: float, train: Part, valid: Part, seed: int) -> nn.Module:
    """A fresh one, after its offline start where it has one."""
    if name == "cross_entropy":
        return nn.CrossEntropyLoss()
    if name == "anchored":
        return mg.AdaLFL(10, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = mg.AdaLFL(10, paper=True, seed=seed)
    loss.offline_start(
        MODELS[model], lambda parameters: torch.optim.SGD(parameters, lr=rate), batches(train, BATCH),
        valid=batches(valid, BATCH), steps=OFFLINE, keep=1,
    )  # fmt: skip
    return mg.Loss(loss.form) if name == "offline_only" else loss


def error(network: nn.Module, part: Part) -> float:
    """In percent."""
    with torch.no_grad():
        return 100 * float((network(part[0]).argmax(1) != part[1]).float().mean())


def run(model: str, name: str, rate: float, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Errors of the test part on the way, or of the rows that choose at the end of a tuning run."""
    train, valid, chooses, test = load(folder, seed)
    loss = loss_named(name, model, rate, train, valid, seed)
    if name == "cross_entropy":
        train = torch.cat([train[0], valid[0]]), torch.cat([train[1], valid[1]])
    torch.manual_seed(seed)
    network = MODELS[model]()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    if isinstance(loss, mg.Loss):
        loss.attach(network, optimizer, valid=batches(valid, BATCH), total_steps=steps)
    generator, curve = torch.Generator().manual_seed(seed), []
    for step in range(1, steps + 1):
        rows = torch.randint(len(train[1]), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(network(train[0][rows]), train[1][rows]).backward()
        optimizer.step()
        if steps == STEPS and step % EVERY == 0:
            curve.append(error(network, test))
    return {"curve": curve} if curve else {"chooses": error(network, chooses)}


def rows_of(model: str, runs: Runs, folder: Path) -> dict[str, Any]:
    """Every loss of one network."""
    out: dict[str, Any] = {}
    for row, (name, tunes) in LOSSES.items():

        def valid(rates: list[float], name: str = name) -> list[float]:
            asked = {
                f"{model}/{name}/{rate:g}/tuning": (model, name, rate, TUNING_SEED, TUNING_STEPS, folder)
                for rate in rates
            }
            return [-found["chooses"] for found in runs.get(asked)]

        rate = chosen(valid, FIRST) if tunes else AUTHORS
        asked = {f"{model}/{name}/{rate:g}/{seed}": (model, name, rate, seed, STEPS, folder) for seed in range(SEEDS)}
        curves = [found["curve"] for found in runs.get(asked)]
        ends = [curve[-1] for curve in curves]
        out[row] = {
            "rate": rate, "test": interval(ends), "ends": ends, "curve": np.mean(curves, 0).round(3).tolist(),
        }  # fmt: skip
    for rival in ("cross-entropy at 0.01", "cross-entropy, tuned"):
        for found in out.values():
            found[f"minus {rival}"] = paired(found["ends"], out[rival]["ends"])
    return out


def figure(tables: dict[str, Any]) -> None:
    """Mean test error by step, a panel for each network."""
    picture = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(picture)
    for axes, (model, rows) in zip(np.ravel(picture.subplots(1, len(tables))), tables.items(), strict=True):
        for row, found in rows.items():
            steps = np.arange(1, len(found["curve"]) + 1) * EVERY
            axes.plot(steps, found["curve"], label=row, linewidth=1.1, linestyle="--" if "cross" in row else "-")
        axes.set(title=model, xlabel="step", ylabel="test error, %", yscale="log")
        axes.legend(fontsize=6)
    picture.savefig(RESULTS / "adalfl_long.png", dpi=90)


def main() -> None:
    """Run what is missing, draw, write the JSON."""
    given = arguments(__doc__, [*MODELS], processes=True)
    store = Store("adalfl_long", SEEDS)
    runs = Runs(store, run, given.processes)
    tables = {model: rows_of(model, runs, given.data) for model in given.only}
    figure(tables)
    store.finish(steps=STEPS, tuning_steps=TUNING_STEPS, offline_rounds=OFFLINE, batch=BATCH, tables=tables)
    for model, rows in tables.items():
        for row, found in rows.items():
            print(f"{model:4} {row:30} rate {found['rate']:<6g} {found['test']['mean']:.2f} %")


if __name__ == "__main__":
    main()
