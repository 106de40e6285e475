"""Key points of a humanoid: PCKh of two standard losses over the Gaussian's sigma, of UniLoss("pck") and of ReLoss.

    python benchmarks/pose_humanoid.py

The pictures, 48 pixels high and wide, are rendered by pybullet (extra ``pose``) in poses of motion capture; the parts'
poses are no neighbours in time, and each seed cuts them anew. Every loss trains the same small hourglass from the same
first weights; its heat maps have 16 x 16 pixels. Adam's rate falls to zero along a cosine from the best of one list,
chosen on validation pictures of the first seed. So are the two sigmas that the others are compared with: of the squared
error, and of the cross-entropy over pixels, which is the control: like UniLoss it asks for the largest pixel alone, and
it never calls the metric. Test pictures are scored once, at that rate.

ReLoss is fitted on heat maps recorded while the squared error at that sigma trains on three fifths of the training
pictures, those of the other two; the recording and the fit are charged in its seconds. What the squared error makes of
such extra time is the row with twice the epochs, which also says how far from its plateau it is. The ReLoss that comes
with the package was fitted to digits on a canvas.

Contrast, sizes, batch and epochs were chosen on validation pictures of the first seed, looking
at the squared error with sigmas 1, 2 and 4 and at UniLoss.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import common
import metricgrad as mg
from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from metricgrad.losses.baselines.heatmap_cross_entropy import HeatmapCrossEntropy
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from pose import judges_by_heads
from tasks.humanoid.data import JOINTS, draw_humanoids
from tasks.humanoid.motion import PARTS
from tasks.stick_figures.model import Hourglass

SEEDS, EPOCHS, BATCH, WIDTH, DEPTH = 5, 20, 16, 16, 2
SIZE, SHRINK = 48, 3  # pixels of the pictures, and how many make one of the maps
COUNTS = {"train": 1000, "valid": 320, "test": 320}
SIGMAS = (0.1, 0.5, 1.0, 2.0, 4.0, 10.0)
OVER_PIXELS = (0.1, 0.5, 1.0, 2.0)  # 0.1 is one pixel
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
UNILOSS, RELOSS, SHIPPED = "UniLoss(pck)", "ReLoss(pck), fitted", "ReLoss(pck), pretrained"
OF_PIXELS = "ReLoss(pck), fitted, the paper's network of pixels"
OURS = (UNILOSS, RELOSS, OF_PIXELS, SHIPPED)
APART = 2 / 5
Pictures = tuple[Tensor, Tensor, Tensor]
Recorded = tuple[Tensor, Tensor]
Make = Callable[[int, Pictures], nn.Module]


def squared(sigma: float) -> str:
    """The row's name."""
    return f"squared error, sigma {sigma:g}"


def over_pixels(sigma: float) -> str:
    """The row's name."""
    return f"cross-entropy over pixels, sigma {sigma:g}"


def pictures(seed: int) -> dict[str, Pictures]:
    """The three parts of a seed: pictures less their mean, as blocks of pixels, and points in pixels of the map."""
    drawn = {part: draw_humanoids(COUNTS[part], part=part, size=SIZE, seed=seed) for part in PARTS}
    grey = drawn["train"][0].mean()
    return {
        part: (nn.functional.pixel_unshuffle(images - grey, SHRINK), (joints + 0.5) / SHRINK - 0.5, heads / SHRINK)
        for part, (images, joints, heads) in drawn.items()
    }


def train(
    loss: nn.Module,
    rate: float,
    seed: int,
    shown: Pictures,
    *,
    epochs: int,
    recorded_on: Pictures | None = None,
) -> tuple[nn.Module, Recorded | None]:
    """A trained model, and heat maps of the pictures that are not shown but recorded on, with their points."""
    torch.manual_seed(seed)
    # a third less time on a CPU
    model: Any = Hourglass(len(JOINTS), channels=SHRINK**2, width=WIDTH, depth=DEPTH).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.Adam(model.parameters(), rate)
    images, joints, heads = shown
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(images) / BATCH))
    of_heads = judges_by_heads(loss)
    watched = recorded_on and mg.record_scores(model, optimizer, [recorded_on[:2]])
    with watched or contextlib.nullcontext():
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                loss(model(images[rows]), joints[rows], head_sizes=heads[rows] if of_heads else None).backward()
                optimizer.step()
                falling.step()
    return model.eval(), watched and (watched.scores, watched.targets)


def judge(model: nn.Module, judged: Pictures) -> float:
    """PCKh at half a head."""
    images, joints, heads = judged
    with torch.no_grad():
        return float(mg.as_metric("pck")(model(images), joints, head_sizes=heads))


def fitted(sigma: float, rate: float, seed: int, shown: Pictures, *, of_pixels: bool = False) -> nn.Module:
    """ReLoss, fitted on heat maps of a run of the squared error on three fifths of the pictures."""
    cut = round(APART * len(shown[0]))
    apart, rest = (tuple(x[:cut] for x in shown), tuple(x[cut:] for x in shown))
    _, recorded = train(GaussianMSE(sigma=sigma), rate, seed, rest, epochs=EPOCHS, recorded_on=apart)
    assert recorded is not None
    # heads are not stored with heat maps: half of one is a radius of as many pixels
    radius = 0.5 * float(shown[2].mean())
    form = HeatmapNetwork(size=shown[0].shape[-2:], sigma=sigma, seed=seed) if of_pixels else None
    return mg.ReLoss.fit(f"pck:radius={radius:.3f}", *recorded, form=form, seed=seed)


class Table:
    """Runs of every loss on the same pictures, each stored once it is done."""

    def __init__(self) -> None:
        self.store = common.Store("pose_humanoid", SEEDS)
        self.rows: dict[str, dict[str, Any]] = {}
        self._pictures = functools.cache(pictures)

    def best_rate(self, name: str, make: Make) -> tuple[float, dict[str, float]]:
        """The rate with the best validation value of the first seed, and all values."""
        values = {}
        once = functools.cache(lambda: make(0, self._pictures(0)["train"]))
        for rate in RATES:
            if (value := self.store.get(key := f"{name} rate {rate:g}")) is None:
                parts = self._pictures(0)
                model, _ = train(copy.deepcopy(once()), rate, 0, parts["train"], epochs=EPOCHS)
                value = self.store.add(key, judge(model, parts["valid"]))
            values[rate] = value
        return max(values, key=lambda rate: values[rate]), {f"{rate:g}": value for rate, value in values.items()}

    def run(self, name: str, make: Make, rate: float, epochs: int | None = None, **found: Any) -> None:
        """All seeds of one loss: validation and test values, and seconds with the making of the loss."""
        runs = []
        for seed in range(SEEDS):
            if (run := self.store.get(key := f"{name} seed {seed}")) is None:
                parts = self._pictures(seed)
                start = time.process_time()
                loss = make(seed, parts["train"])
                made = time.process_time() - start
                model, _ = train(loss, rate, seed, parts["train"], epochs=epochs or EPOCHS)
                seconds = time.process_time() - start
                report = loss.report() if isinstance(loss, mg.ReLoss) and name in (RELOSS, OF_PIXELS) else None
                run = self.store.add(key, {
                    "valid": judge(model, parts["valid"]), "test": judge(model, parts["test"]), "seconds": seconds,
                    "made": made,
                    "rank": report and {name: report[name]["value"] for name in ("correlation", "standard")},
                })  # fmt: skip
            runs.append(run)
        values = [run["test"] for run in runs]
        row = {
            "lr": rate, **found, "pck": common.interval(values), "values": values,
            "valid": [run["valid"] for run in runs], "seconds": sum(run["seconds"] for run in runs) / SEEDS,
            "seconds_before_training": sum(run["made"] for run in runs) / SEEDS,
        }  # fmt: skip
        if runs[0]["rank"]:
            row["rank_correlation"] = {
                key: common.interval([run["rank"][key] for run in runs]) for key in runs[0]["rank"]
            }
        self.rows[name] = row
        print(f"{name:40} lr {rate:g}  PCKh {row['pck']['mean']:.3f}  {row['seconds']:.1f} s", flush=True)

    def best_of(self, names: list[str]) -> str:
        """The row with the best validation value of the first seed."""
        return max(names, key=lambda name: max(self.rows[name]["rates"].values()))

    def tuned(self, name: str, make: Make) -> None:
        """Choose the rate, then run all seeds with it."""
        rate, values = self.best_rate(name, make)
        self.run(name, make, rate, rates=values)


def main() -> None:
    """Run what has not run yet, and write the results."""
    common.arguments(__doc__)
    table = Table()
    for sigma in SIGMAS:
        table.tuned(squared(sigma), lambda seed, shown, sigma=sigma: GaussianMSE(sigma=sigma))
    for sigma in OVER_PIXELS:
        table.tuned(over_pixels(sigma), lambda seed, shown, sigma=sigma: HeatmapCrossEntropy(sigma=sigma))
    table.tuned(UNILOSS, lambda seed, shown: mg.UniLoss("pck", seed=seed))
    best, control = table.best_of(list(map(squared, SIGMAS))), table.best_of(list(map(over_pixels, OVER_PIXELS)))
    sigma = next(sigma for sigma in SIGMAS if squared(sigma) == best)
    rate = table.rows[best]["lr"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="this surrogate does not rank")
        table.tuned(RELOSS, lambda seed, shown: fitted(sigma, rate, seed, shown))
        table.tuned(OF_PIXELS, lambda seed, shown: fitted(sigma, rate, seed, shown, of_pixels=True))
    table.tuned(SHIPPED, lambda seed, shown: mg.ReLoss.pretrained("pck"))
    longer = f"{best}, twice the epochs"
    table.run(longer, lambda seed, shown: GaussianMSE(sigma=sigma), rate, 2 * EPOCHS)
    values = {name: row["values"] for name, row in table.rows.items()}
    table.store.finish(
        rows=table.rows, best=best, control=control, longer=longer, epochs=EPOCHS, counts=COUNTS, size=SIZE,
        minus_best={name: common.paired(mine, values[best]) for name, mine in values.items() if name != best},
        minus_longer={name: common.paired(values[name], values[longer]) for name in OURS},
        minus_control={name: common.paired(values[name], values[control]) for name in OURS},
        uniloss_minus_reloss=common.paired(values[UNILOSS], values[RELOSS]),
    )  # fmt: skip


if __name__ == "__main__":
    main()
