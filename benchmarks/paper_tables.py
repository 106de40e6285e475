"""UniLoss's tables at CPU scale: MNIST AP, accuracy on three data sets, and the ablations over anchors and batch size.

Every loss of a table gets the same learning rates to choose from, by validation at a seed of its own; an ablation over
anchors takes the rate of its parent row, and the two rows of the released code share one rate. The epoch is chosen by
validation too; the test part is scored once a seed. Seeds change the weights, the order and the cut between training
and validation; the test part of MNIST is the official one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

import metricgrad as mg
from common import BinaryCrossEntropy, Store, arguments, interval, paired, pixels, read
from metricgrad.losses.baselines.margin import Margin
from metricgrad.tasks.mlp import mlp
from training import Part, Recipe, selected, train
from where_it_pays import digit_pixels, fashion_pixels

SEEDS, TUNING_SEED = 4, 1_000_000
RATES = {"mnist_ap": (0.01, 0.1), "digits": (0.1, 0.3), "fashion": (0.1, 0.3), "glyphs": (0.1, 0.5)}
METRIC = {"mnist_ap": "average_precision", "digits": "accuracy", "fashion": "accuracy", "glyphs": "accuracy"}
EPOCHS = {"mnist_ap": 2, "digits": 20, "fashion": 4, "glyphs": 8}
SIZES = {"mnist_ap": (3000, 2000), "digits": (900, 400), "fashion": (6000, 2000), "glyphs": (6000, 4000)}
NETS: dict[str, Callable[[], nn.Module]] = {
    "mnist_ap": lambda: mlp(784, None, (500, 300)),
    "digits": lambda: mlp(64, 10, (64,)),
    "fashion": lambda: mlp(784, 10, (128,)),
    "glyphs": lambda: mlp(784, 62, (128,)),
}
Make = Callable[[int], nn.Module]


class OfProbabilities(nn.Module):
    """A loss of ``sigmoid(scores)``: the released network ends in a sigmoid."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        return self.loss(scores.sigmoid(), targets)


def losses(task: str) -> dict[str, Make]:
    """Name to ``seed -> loss``."""
    metric = METRIC[task]
    share = 0.2 if task == "glyphs" else 1.0
    note = ", share 0.2" if task == "glyphs" else ""
    out: dict[str, Make] = {
        "cross-entropy": lambda seed: BinaryCrossEntropy() if task == "mnist_ap" else nn.CrossEntropyLoss(),
        f"UniLoss, the paper's{note}": lambda seed: mg.UniLoss(metric, paper=True, share=share, seed=seed),
        f"UniLoss, our default{note}": lambda seed: mg.UniLoss(metric, share=share, seed=seed),
        "margin (no metric)": lambda seed: Margin(between="pairs" if task == "mnist_ap" else "items"),
    }
    if task == "glyphs":
        out["UniLoss, our default, share 1"] = lambda seed: mg.UniLoss(metric, seed=seed)
    if task == "mnist_ap":
        for count in (5, 10):
            out[f"UniLoss, the paper's, {count} anchors"] = lambda seed, n=count: mg.UniLoss(
                metric, paper=True, anchors=n, seed=seed
            )
        for sign in ("released", "true"):
            out[f"UniLoss, the released code's anchors and sigmoid, {sign} gradient"] = lambda seed, s=sign: (
                OfProbabilities(mg.UniLoss(metric, paper="released", gradient=s, seed=seed))  # type: ignore[arg-type]
            )
    if task == "digits":
        for count in (5, 10):
            out[f"UniLoss, the paper's, {count} anchors"] = lambda seed, n=count: mg.UniLoss(
                metric, paper=True, anchors=n, seed=seed
            )
        for sign in ("released", "true"):
            out[f"UniLoss, the released code's anchors, {sign} gradient"] = lambda seed, s=sign: mg.UniLoss(
                metric, paper="released", gradient=s, seed=seed
            )
    return out


@functools.cache
def everything(task: str, folder: Any) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Inputs and targets of a task, and a fixed test part where there is one."""
    if task == "mnist_ap":
        raw = read(folder, "mnist20k.npz")
        y, y_test = (torch.from_numpy((raw[k] == 0).astype(np.int64)) for k in ("y_train", "y_test"))
        return pixels(raw["x_train"]), y, pixels(raw["x_test"]), y_test
    if task == "glyphs":
        raw = read(folder, "glyphs_aenigma.npz")
        return pixels(raw["X"]), torch.from_numpy(raw["y"].astype(np.int64)), None, None
    inputs, targets = digit_pixels() if task == "digits" else fashion_pixels()
    return (inputs / 16 if task == "digits" else inputs), targets, None, None


def load(task: str, folder: Any, seed: int) -> list[Part]:
    """Training, validation and test part."""
    inputs, targets, x_test, y_test = everything(task, folder)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    a, b = SIZES[task]
    cuts = order[:a], order[a : a + b], order[a + b : a + b + 10_000]
    parts = [(inputs[index], targets[index]) for index in cuts]
    return parts if x_test is None or y_test is None else [*parts[:2], (x_test, y_test)]


def run(task: str, make: Make, rate: float, seed: int, folder: Any, batch: int) -> dict[str, Any]:
    """Validation and test of the best epoch, and the validation curve."""
    momentum = 0.0 if task == "mnist_ap" else 0.9
    recipe = Recipe(
        NETS[task], lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum), epochs=EPOCHS[task], batch=batch
    )
    try:
        epochs = train(recipe, make(seed), load(task, folder, seed), [METRIC[task]], seed)
    except mg.MetricgradError as error:
        return {"valid": -1.0, "test": None, "curve": [], "why": str(error)}
    valid, test = selected(epochs, METRIC[task])
    return {"valid": valid, "test": test, "curve": [epoch.valid[METRIC[task]] for epoch in epochs]}


def table(get: Callable[..., dict[str, Any]], task: str, rows: dict[str, Make], batch: int, tag: str = "") -> Any:
    """Every row of a table with its chosen rate, test values and difference from cross-entropy."""
    out: dict[str, Any] = {}
    for name, make in rows.items():
        rates = RATES[task]
        if "anchors" in name:
            rates = (out["UniLoss, the paper's"]["rate"],) if "released" not in name else (0.1,)
        tuning = (
            {} if len(rates) == 1 else {rate: get(task, tag + name, make, rate, TUNING_SEED, batch) for rate in rates}
        )
        rate = rates[0] if len(rates) == 1 else max(tuning, key=lambda r: tuning[r]["valid"])
        runs = [get(task, tag + name, make, rate, seed, batch) for seed in range(SEEDS)]
        tests = [r["test"] for r in runs if r["test"] is not None]
        out[name] = {"rate": rate, "tests": tests, **interval(tests or [float("nan")])}
        out[name]["curve"] = np.mean([r["curve"] for r in runs if r["curve"]], axis=0).tolist()
        if len(tests) == len(out["cross-entropy"]["tests"]):
            out[name]["difference"] = paired(tests, out["cross-entropy"]["tests"])
    return out


def main() -> None:
    """Run what is missing, write the JSON."""
    given = arguments(__doc__, [*NETS, "batch"], default=("mnist_ap", "digits", "glyphs"))
    folder = given.data
    store = Store("paper_tables", SEEDS)
    tables: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    with Progress() as bar:
        cells = sum(len(losses(task)) for task in NETS) + 3 * 4
        shown = bar.add_task("the paper's tables", total=cells * (2 + SEEDS))

        def get(task: str, name: str, make: Make, rate: float, seed: int, batch: int) -> dict[str, Any]:
            key = f"{task}/{batch}/{name}/{rate}/{seed}"
            bar.advance(shown)
            return store.get(key) or store.add(key, run(task, make, rate, seed, folder, batch))

        def write() -> None:
            store.finish(tables=tables, batch_sizes=sizes, epochs=EPOCHS, rates=RATES, sizes=SIZES, metrics=METRIC)

        for task in (task for task in NETS if task in given.only):
            tables[task] = table(get, task, losses(task), 16 if task == "mnist_ap" else 128)
            write()
        few = {k: v for k, v in losses("digits").items() if k in ("cross-entropy", "UniLoss, the paper's")}
        few["UniLoss, our default"] = losses("digits")["UniLoss, our default"]
        for batch in (32, 128, 512) if "batch" in given.only else ():
            sizes[str(batch)] = table(get, "digits", few, batch)
            write()


if __name__ == "__main__":
    main()
