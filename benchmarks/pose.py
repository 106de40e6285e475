"""Key points of drawn figures: PCK of squared error and cross-entropy over sigma, of UniLoss and of ReLoss.

    python benchmarks/pose.py

Every loss trains the same small hourglass with Adam for 80 epochs, the rate divided by four after 60, 75 and 90 % of
them (the paper divides by four every ten of its last epochs), which is until the squared error is flat: the report
says what the last fifth of the epochs still adds. Rates go on from 0.003, 0.01 and 0.03 while the best is at an edge;
what is best is seen on pictures of its own after 30 epochs of the same shape. The test pictures are scored on the way
too, for that report; nothing is chosen by them. Cross-entropy over pixels never calls the metric: it is the control.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import common
import metricgrad as mg
from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from metricgrad.losses.baselines.heatmap_cross_entropy import HeatmapCrossEntropy
from metricgrad.losses.interpolated.interpolated import Interpolated
from tasks.stick_figures.data import JOINTS, draw_figures
from tasks.stick_figures.model import Hourglass
from tuning import Runs, chosen

SEEDS, TUNING_SEED, EPOCHS, TUNING_EPOCHS, BATCH, TRAIN, TEST, SIZE = 4, 450, 80, 30, 32, 384, 256, 24
SIGMAS = (0.1, 0.5, 1.0, 2.0, 4.0, 10.0)
RATES = (0.003, 0.01, 0.03)
OVER_PIXELS = (0.1, 0.5, 1.0, 2.0)  # 0.1 is one pixel
UNILOSS = "UniLoss(pck)"
Pictures = tuple[Tensor, Tensor, Tensor]


def losses() -> dict[str, Callable[[int], nn.Module]]:
    """Name to a factory of a fresh loss for a seed."""
    made: dict[str, Callable[[int], nn.Module]] = {
        f"squared error, sigma {sigma:g}": lambda seed, sigma=sigma: GaussianMSE(sigma=sigma) for sigma in SIGMAS
    }
    for sigma in OVER_PIXELS:
        made[f"cross-entropy over pixels, sigma {sigma:g}"] = lambda seed, sigma=sigma: HeatmapCrossEntropy(sigma=sigma)
    made[UNILOSS] = lambda seed: mg.UniLoss("pck", seed=seed)
    made["ReLoss, pretrained"] = lambda seed: mg.ReLoss.pretrained("pck")
    return made


def judges_by_heads(loss: nn.Module) -> bool:
    """Whether a loss reads head sizes: only the metric itself does."""
    return isinstance(loss, mg.Loss) and isinstance(loss.form, Interpolated)


def train(name: str, rate: float, seed: int, epochs: int) -> dict[str, Any]:
    """PCKh at half a head on pictures of the seed, now and then on the way and at the end; and seconds."""
    images, joints, heads = draw_figures(TRAIN, size=SIZE, seed=2 * seed)
    judged = draw_figures(TEST, size=SIZE, seed=2 * seed + 1)
    torch.manual_seed(seed)
    model, loss = Hourglass(len(JOINTS), width=12, depth=2), losses()[name](seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    drops = [round(share * epochs) for share in (0.6, 0.75, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, 0.25)
    of_heads, curve, start = judges_by_heads(loss), [], time.perf_counter()
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss(model(images[rows]), joints[rows], head_sizes=heads[rows] if of_heads else None).backward()
            optimizer.step()
        schedule.step()
        if (epoch + 1) % (epochs // 10) == 0:
            curve.append(pck(model, judged))
    return {"pck": curve[-1], "curve": curve, "seconds": time.perf_counter() - start}


def pck(model: nn.Module, judged: Pictures) -> float:
    """PCKh at half a head, the model in eval mode."""
    with torch.no_grad():
        scores = model.eval()(judged[0])
    return float(mg.as_metric("pck")(scores, judged[1], head_sizes=judged[2]))


def main() -> None:
    """Run what has not run yet, and write the results."""
    given = common.arguments(__doc__, processes=True)
    store = common.Store("pose", SEEDS)
    runs, rows = Runs(store, train, given.processes), {}
    for name in losses():

        def valid(rates: list[float], name: str = name) -> list[float]:
            asked = {f"{name} tuning {rate:g}": (name, rate, TUNING_SEED, TUNING_EPOCHS) for rate in rates}
            return [found["pck"] for found in runs.get(asked)]

        rate = chosen(valid, RATES)
        found = runs.get({f"{name} rate {rate:g} seed {s}": (name, rate, s, EPOCHS) for s in range(SEEDS)})
        values = [run["pck"] for run in found]
        late = common.interval([run["curve"][-1] - run["curve"][-3] for run in found])
        rows[name] = {"lr": rate, "pck": common.interval(values), "values": values, "last_fifth": late}
    ours = rows[UNILOSS]["values"]
    against = {name: common.paired(ours, row["values"]) for name, row in rows.items() if name != UNILOSS}
    store.finish(rows=rows, uniloss_minus=against, epochs=EPOCHS, rates=RATES)


if __name__ == "__main__":
    main()
