"""UniLoss's tables at CPU scale: MNIST AP, accuracy on digits and 62 glyphs, anchors of each type, batch sizes.

The recipe is the released code's: pixels normalised, weight decay 1e-4, momentum 0.5 (MNIST) or 0.9 (classes), batch
norm in the networks of classes, the rate divided by ten after 70 % and 80 % of the epochs (classes), and a sigmoid on
the scores where a row says so. MNIST: 784-500-300-1, batches of 16, 30 epochs.

Every loss is tuned alike: a grid of rates, each three times the one before or a little more, goes on while its best is
at an edge. What is best is seen on validation at the last epoch, at a seed of its own; on MNIST after 5 epochs in place
of 30, on glyphs after 15 in place of 40. Rows of other anchors and batch sizes keep the rate of the row they vary, as
in the paper. The last epoch counts; its test part is scored once a seed. Seeds change the weights, the order and the
cut between training and validation; MNIST's test part is the official one. After --limit seconds no runs are begun,
rows that are not whole are left out, and a further call goes on. What --only leaves out stays as it was written last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import metricgrad as mg
from common import BinaryCrossEntropy, Store, arguments, interval, paired, pixels, read
from metricgrad.losses.baselines.margin import Margin
from metricgrad.systems.uniloss_controls import random_values
from training import Part
from tuning import OutOfTimeError, Runs, chosen
from where_it_pays import digit_pixels

SEEDS, TUNING_SEED = 4, 1_000_000
FIRST = (0.03, 0.1, 0.3)
BATCHES = (16, 32, 128, 512)
SIGNS = ("UniLoss, the released code's, sign error", "UniLoss, the released code's, true gradient")
Make = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Table:
    """Data, network and schedule of one of the paper's tables.

    Attributes:
        metric: what is judged.
        widths: of inputs, hidden layers and outputs.
        sizes: training and validation items.
        epochs: of a run.
        tuning_epochs: of a run that chooses the rate.
        batch: rows.
        momentum: of SGD.
        drops: shares of the epochs after which the rate is a tenth.
        share: of the comparisons, in UniLoss's paper mode.
        tested: test items, where seeds redraw them from the same data as the training part; 0 of a part of its own.
    """

    metric: str
    widths: tuple[int, ...]
    sizes: tuple[int, int]
    epochs: int
    tuning_epochs: int
    batch: int = 128
    momentum: float = 0.9
    drops: tuple[float, ...] = (0.7, 0.8)
    share: float = 1.0
    tested: int = 0

    @property
    def overlap(self) -> float:
        """Test items for each training item that other seeds may train on."""
        return self.tested / self.sizes[0]

    def network(self) -> nn.Sequential:
        """Layers with ReLU between them; with batch norm where there are classes."""
        layers: list[nn.Module] = []
        for before, after in zip(self.widths[:-2], self.widths[1:-1], strict=True):
            norm = [nn.BatchNorm1d(after)] * (self.widths[-1] > 1)
            layers += [nn.Linear(before, after, bias=not norm), *norm, nn.ReLU()]
        layers.append(nn.Linear(*self.widths[-2:]))
        return nn.Sequential(*layers, *[nn.Flatten(0)] * (self.widths[-1] == 1))


TABLES = {
    "mnist_ap": Table("average_precision", (784, 500, 300, 1), (8000, 2000), 30, 5, 16, 0.5, ()),
    "digits": Table("accuracy", (64, 64, 10), (900, 400), 200, 200, tested=497),
    "glyphs": Table("accuracy", (784, 128, 62), (6000, 4000), 40, 15, share=0.2, tested=10_000),
}


class OfProbabilities(nn.Module):
    """A loss of ``sigmoid(scores)``: the released networks end in a sigmoid."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        return self.loss(scores.sigmoid(), targets)


def losses(name: str) -> dict[str, tuple[Make, str | None]]:
    """Row to ``seed -> loss``, and the row whose rate it has; None where it is tuned."""
    table = TABLES[name]
    of_rank = table.widths[-1] == 1

    def paper(sigmoid: bool = True, **options: Any) -> Make:
        def make(seed: int) -> nn.Module:
            loss = mg.UniLoss(table.metric, seed=seed, **{"paper": True, "share": table.share, **options})
            return OfProbabilities(loss) if sigmoid else loss

        return make

    rows: dict[str, tuple[Make, str | None]] = {
        "cross-entropy": (lambda seed: BinaryCrossEntropy() if of_rank else nn.CrossEntropyLoss(), None),
        "UniLoss, the paper's": (paper(), None),
        "UniLoss, the paper's, no sigmoid": (paper(sigmoid=False), None),
        "UniLoss": (lambda seed: mg.UniLoss(table.metric, seed=seed), None),
        SIGNS[0]: (paper(paper="released", gradient="released"), None),
        SIGNS[1]: (paper(paper="released"), None),
        "margin, no metric": (lambda seed: Margin(between="pairs" if of_rank else "items"), None),
        "UniLoss, the metric alone": (lambda seed: mg.UniLoss(table.metric, anchored=False, seed=seed), None),
        "UniLoss, answered at random": (lambda seed: random_values(mg.as_metric(table.metric), seed=seed), None),
    }
    if table.share < 1:
        rows["UniLoss, the paper's, all comparisons"] = (paper(share=1.0), "UniLoss, the paper's")
        return rows
    for count in (10, 5):
        rows[f"UniLoss, the paper's, {count} anchors"] = (paper(anchors=count), "UniLoss, the paper's")
    return rows


@functools.cache
def everything(name: str, folder: Path) -> list[Part]:
    """All items, normalised; and a fixed test part where there is one."""
    if name == "mnist_ap":
        raw = read(folder, "mnist20k.npz")
        parts = [(pixels(raw[f"x_{p}"]), torch.from_numpy((raw[f"y_{p}"] == 0).astype(int))) for p in ("train", "test")]
    elif name == "glyphs":
        raw = read(folder, "glyphs_aenigma.npz")
        parts = [(pixels(raw["X"]), torch.from_numpy(raw["y"].astype(int)))]
    else:
        parts = [digit_pixels()]
    mean, deviation = parts[0][0].mean(), parts[0][0].std()
    return [((inputs - mean) / deviation, targets) for inputs, targets in parts]


def load(name: str, folder: Path, seed: int) -> list[Part]:
    """Training, validation and test part."""
    (inputs, targets), *fixed = everything(name, folder)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    a, b = TABLES[name].sizes
    cuts = order[:a], order[a : a + b], order[a + b : a + b + 10_000]
    return [*((inputs[cut], targets[cut]) for cut in cuts[: 3 - len(fixed)]), *fixed]


def run(name: str, row: str, rate: float, seed: int, folder: Path, batch: int, epochs: int) -> dict[str, Any]:
    """The validation curve, and the test part's value of the last epoch."""
    table, parts = TABLES[name], load(name, folder, seed)
    judge = mg.as_metric(table.metric)
    torch.manual_seed(seed)
    model, loss = table.network(), losses(name)[row][0](seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=table.momentum, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * epochs) for share in table.drops])
    inputs, targets = parts[0]
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, total_steps=epochs * -(-len(targets) // batch))

    def score(part: Part) -> float:
        model.eval()
        with torch.no_grad():
            return float(judge(model(part[0]), part[1]))

    curve = []
    try:
        for _ in range(epochs):
            model.train()
            for index in torch.randperm(len(targets)).split(batch):
                optimizer.zero_grad()
                loss(model(inputs[index]), targets[index]).backward()
                optimizer.step()
            schedule.step()
            curve.append(score(parts[1]))
        return {"valid": curve[-1], "test": score(parts[2]), "curve": curve}
    except mg.MetricgradError as error:  # scores that are no longer finite
        return {"valid": -1.0, "test": None, "curve": curve, "why": str(error)}


class Tables:
    """The tables, of runs that are kept.

    Args:
        runs: of :func:`run`.
        folder: of the data.
    """

    def __init__(self, runs: Runs, folder: Path) -> None:
        self.runs, self.folder = runs, folder

    def get(self, name: str, row: str, cells: Sequence[tuple[float, int]], batch: int, epochs: int) -> list[Any]:
        """One run for each cell, a rate and a seed."""
        return self.runs.get({
            f"{name}/{batch}/{epochs}/{row}/{rate}/{seed}": (name, row, rate, seed, self.folder, batch, epochs)
            for rate, seed in cells
        })  # fmt: skip

    def table(self, name: str) -> dict[str, Any]:
        """Every row of a table that there is time for, with its rate, test values and difference from cross-entropy."""
        table, out = TABLES[name], {}
        for row, (_, parent) in losses(name).items():

            def valid(rates: list[float], row: str = row) -> list[float]:
                cells = [(rate, TUNING_SEED) for rate in rates]
                return [found["valid"] for found in self.get(name, row, cells, table.batch, table.tuning_epochs)]

            try:
                rate = chosen(valid, FIRST) if parent is None else out[parent]["rate"]
                runs = self.get(name, row, [(rate, seed) for seed in range(SEEDS)], table.batch, table.epochs)
            except OutOfTimeError:
                break
            out[row] = summary(rate, runs, table.overlap, out.get("cross-entropy"))
        if all(row in out for row in SIGNS):
            out[SIGNS[0]]["minus_true"] = paired(*(out[row]["tests"] for row in SIGNS), table.overlap)
        return out

    def batch_sizes(self, rates: dict[str, float]) -> dict[str, Any]:
        """Digits at several batch sizes, three losses at the rates they have at 128."""
        out: dict[str, Any] = {}
        for batch in BATCHES:
            for row in ("cross-entropy", "UniLoss, the paper's", "UniLoss"):
                cells = [(rates[row], seed) for seed in range(SEEDS)]
                try:
                    runs = self.get("digits", row, cells, batch, TABLES["digits"].epochs)
                except OutOfTimeError:
                    return out
                out.setdefault(str(batch), {})[row] = summary(rates[row], runs, TABLES["digits"].overlap)
        return out


def summary(
    rate: float, runs: list[dict[str, Any]], overlap: float, standard: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Tests with their interval, the mean validation curve, and the paired difference from cross-entropy."""
    tests = [found["test"] for found in runs if found["test"] is not None]
    out = {"rate": rate, "tests": tests, **interval(tests or [float("nan")], overlap)}
    out["curve"] = np.mean([found["curve"] for found in runs if found["test"] is not None] or [[]], axis=0).tolist()
    if standard is not None and len(tests) == len(standard["tests"]):
        out["difference"] = paired(tests, standard["tests"], overlap)
    return out


def main() -> None:
    """Run what is missing, write the JSON."""
    given = arguments(__doc__, [*TABLES, "batch"], limit=float("inf"), processes=True)
    store = Store("paper_tables", SEEDS)
    made = Tables(Runs(store, run, given.processes, given.limit), given.data)
    tables, sizes = store.kept("tables"), store.kept("batch_sizes")
    described = {name: vars(table) for name, table in TABLES.items()}
    for name in (name for name in TABLES if name in given.only):
        tables[name] = made.table(name)
        store.finish(tables=tables, batch_sizes=sizes, described=described, first=FIRST)
    if "batch" in given.only:
        digits = tables.get("digits") or made.table("digits")
        sizes = made.batch_sizes({row: found["rate"] for row, found in digits.items()})
        store.finish(tables=tables, batch_sizes=sizes, described=described, first=FIRST)


if __name__ == "__main__":
    main()
