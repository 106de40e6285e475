"""What a step of a loss of order costs, beside the losses people use: from 64 to 65,536 scores, 1 to 50 % positives.

Forward and backward of one batch on one thread, in processor time. All losses of a cell take turns in one process, so
what else the machine does falls on all alike. A cell has the median over three processes of the median over turns, and
bars are ratios of these. LibAUC's losses are measured where they are: ``pip install --no-deps libauc``.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import RESULTS, Store, in_process
from metricgrad.losses.baselines.smooth_ap import SmoothAP

SIZES = (64, 256, 1024, 4096, 16384, 65536)
SHARES = (0.01, 0.05, 0.2, 0.5)
METRICS = ("auroc", "average_precision", "ndcg", "recall_at_precision")
RIVALS = ("libauc aucm", "libauc pairwise auc", "smooth_ap")
DENSE = "dense smooth ap"
MOST_PAIRS = 2**24
"""Beyond as many pairs the losses that hold them all are not run: each of their tensors takes 64 MB."""
PROCESSES = 3
"""Of which each measures all cells."""
KEPT = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
"""glibc keeps what is freed: otherwise some loss pays for giving back what the losses of all pairs before it took."""
OLD_ROWS = 1024
"""Scores that have gone by before a loss is measured, so that its memory is full."""


def dense_smooth_ap(scores: Tensor, targets: Tensor) -> Tensor:
    """Smooth AP in four lines, of all pairs."""
    positive = targets > 0
    above = (scores[None] - scores[positive][:, None]).sigmoid()
    of_positives, of_all = above[:, positive].sum(1) + 0.5, above.sum(1) + 0.5
    return 1 - (of_positives / of_all).mean()


def losses(pairs: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """A fresh loss of each kind that is run on so many pairs."""
    cross_entropy = nn.BCEWithLogitsLoss()
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cross-entropy": lambda scores, targets: cross_entropy(scores, targets.float()),
        "smooth_ap": SmoothAP(),
    }
    if importlib.util.find_spec("libauc"):
        from libauc.losses import AUCMLoss, PairwiseAUCLoss  # type: ignore[import-not-found]  # optional

        found["libauc aucm"] = AUCMLoss()
        if pairs <= MOST_PAIRS:
            found["libauc pairwise auc"] = PairwiseAUCLoss()
    if pairs <= MOST_PAIRS:
        found[DENSE] = dense_smooth_ap
    return found | {f"uniloss {metric}": mg.UniLoss(metric) for metric in METRICS}


def batches(n: int, positives: int) -> list[tuple[Tensor, Tensor]]:
    """Four batches of a half-trained network's scores."""
    found = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        targets = (torch.randperm(n, generator=generator) < positives).long()
        found.append((torch.randn(n, generator=generator) + 1.5 * targets, targets))
    return found


def step(loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Tensor) -> float:
    """Milliseconds of processor time."""
    leaf = scores.clone().requires_grad_()
    start = time.process_time()
    loss(leaf, targets).backward()
    return 1e3 * (time.process_time() - start)


def cell(n: int, share: float) -> dict[str, float]:
    """Medians of all losses, which take turns."""
    positives = max(1, round(share * n))
    data = batches(n, positives)
    found = losses(positives * (n - positives))
    times: dict[str, list[float]] = {name: [] for name in found}
    for name, loss in found.items():
        for turn in range(max(3, OLD_ROWS // n) if name.startswith("uniloss") else 2):
            step(loss, *data[turn % 4])
    gc.disable()
    for turn in range(15 if n <= 4096 else 5):
        for name, loss in found.items():
            times[name].append(step(loss, *data[turn % 4]))
        gc.collect()
    gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}


def bars(cells: dict[str, dict[str, float]]) -> list[list[Any]]:
    """Each bar of a size: the worst ratio over the metrics and shares, and whether it is met."""
    found = []
    for n in SIZES:
        of_size = {key: times for key, times in cells.items() if key.startswith(f"{n}/")}
        most = 3.0 if n == SIZES[0] else 1.0
        ran = [name for name in RIVALS if all(name in times for times in of_size.values())]
        ratio = max(_ours(times) / min(times[name] for name in RIVALS if name in times) for times in of_size.values())
        said = "at most 3 times" if n == SIZES[0] else "no slower than"
        found.append([f"N = {n:,}: {said} the fastest of {', '.join(ran)}", ratio, ratio <= most])
        beside = {key: _ours(times) / times[DENSE] for key, times in of_size.items() if DENSE in times}
        most, said = (4.0, "at most 4 times") if n <= 256 else (1.0, "no slower than")
        for share in SHARES:
            if (ratio := beside.get(f"{n}/{share}")) is not None:
                found.append([f"N = {n:,}, {share:.0%} positives: {said} {DENSE}", ratio, ratio <= most])
    return found


def _ours(times: dict[str, float]) -> float:
    """Of the slowest of our metrics."""
    return max(times[f"uniloss {metric}"] for metric in METRICS)


def draw(cells: dict[str, dict[str, float]]) -> None:
    """Cost against N, a panel for each share of positives."""
    figure = Figure(figsize=(4.2 * len(SHARES), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(SHARES), sharey=True)
    for axes, share in zip(panels, SHARES, strict=True):
        for name in dict.fromkeys(name for times in cells.values() for name in times):
            points = [(n, cells[key][name]) for n in SIZES if name in cells.get(key := f"{n}/{share}", {})]
            ours = name.startswith("uniloss")
            axes.loglog(*zip(*points, strict=True), label=name, linewidth=1.8 if ours else 1.1, marker=".",
                        linestyle="-" if ours else "--")  # fmt: skip
        axes.set(title=f"{share:.0%} positives", xlabel="N")
    panels[0].set_ylabel("ms of processor time, forward and backward")
    panels[0].legend(fontsize=7)
    figure.savefig(RESULTS / "ranking_cost.png", dpi=90)


def main() -> None:
    """Run what is missing, write the JSON and the figure."""
    warnings.simplefilter("ignore")  # of batches on which a metric says nothing
    if "--cell" in sys.argv:
        print(json.dumps({f"{n}/{share}": cell(n, share) for n in SIZES for share in SHARES}))
        return
    store = Store("ranking_cost", PROCESSES)
    runs = [
        store.get(str(number)) or store.add(str(number), in_process(__file__, str(number), **KEPT))
        for number in track(range(PROCESSES), "ranking_cost")
    ]
    cells = {
        key: {name: statistics.median(run[key][name] for run in runs) for name in times}
        for key, times in runs[0].items()
    }
    draw(cells)
    absent = [] if importlib.util.find_spec("libauc") else ["libauc"]
    store.finish(cells=cells, bars=bars(cells), absent=absent)


if __name__ == "__main__":
    main()
