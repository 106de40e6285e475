"""What a step of a loss of many lists costs: means over labels and classes, queries, rows of embeddings.

Forward and backward of one batch on one thread, in processor time. All losses of a cell take turns in one process, so
what else the machine does falls on all alike; a cell has the median over three processes of the median over turns.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchmetrics
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import Store, in_process
from metricgrad.systems.by_name import make_loss
from ranking_cost import KEPT, PROCESSES, step

SIZES = (64, 256, 1024)
Loss = Callable[[Tensor, Tensor], Tensor]


def smooth_ap_of_columns(scores: Tensor, targets: Tensor) -> Tensor:
    """Smooth AP of each label, of all pairs of rows."""
    above = (scores.T[:, None] - scores.T[:, :, None]).sigmoid()
    positive = targets.T > 0
    of_positives = (above * positive[:, None]).sum(2) + 0.5
    precision = of_positives / (above.sum(2) + 0.5)
    return 1 - ((precision * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


def smooth_ndcg(scores: Tensor, targets: Tensor) -> Tensor:
    """NDCG of each row at soft ranks, of all pairs of its items."""
    rank = (scores[:, None] - scores[:, :, None]).sigmoid().sum(2) + 0.5
    best = torch.arange(1, scores.shape[1] + 1).log1p().reciprocal() @ targets.float().sort(descending=True).values.T
    return 1 - ((targets / rank.log1p()).sum(1) / best.clamp(min=1e-6)).mean()


def labels(n: int, columns: int) -> tuple[dict[str, Loss], tuple[Tensor, Tensor]]:
    """20 % of the labels hold."""
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(n, columns, generator=g) < 0.2).long()
    base, theirs = nn.BCEWithLogitsLoss(), torchmetrics.AveragePrecision(task="multilabel", num_labels=columns)
    theirs_of_labels = mg.UniLoss(torchmetrics.F1Score(task="multilabel", num_labels=columns, average="macro"))
    losses = {
        "cross-entropy": lambda scores, targets: base(scores, targets.float()),
        "dense smooth AP": smooth_ap_of_columns,
        "uniloss average_precision": mg.UniLoss("average_precision"),
        "uniloss of torchmetrics' AP": mg.UniLoss(theirs),
        "uniloss auroc": mg.UniLoss("auroc"),
        "uniloss macro_f1": mg.UniLoss("macro_f1"),
        "uniloss of torchmetrics' F1": theirs_of_labels,
    }
    return losses, (torch.randn(n, columns, generator=g) + targets, targets)


def classes(n: int, columns: int) -> tuple[dict[str, Loss], tuple[Tensor, Tensor]]:
    """Class numbers; a mean over one column against the rest."""
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(columns, (n,), generator=g)
    theirs = torchmetrics.AUROC(task="multiclass", num_classes=columns)
    losses = {
        "cross-entropy": nn.CrossEntropyLoss(),
        "uniloss average_precision": mg.UniLoss("average_precision"),
        "uniloss auroc": mg.UniLoss("auroc"),
        "uniloss of torchmetrics' AUROC": mg.UniLoss(theirs),
        "uniloss mrr": mg.UniLoss("mrr"),
    }
    return losses, (torch.randn(n, columns, generator=g) + 2 * nn.functional.one_hot(targets, columns), targets)


def queries(n: int, items: int) -> tuple[dict[str, Loss], tuple[Tensor, Tensor]]:
    """Grades from 0 to 3."""
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (n // items, items), generator=g).float()
    losses = {
        "squared error": nn.MSELoss(),
        "dense smooth NDCG": smooth_ndcg,
        "uniloss ndcg": mg.UniLoss("ndcg"),
        "uniloss ndcg:k=10": mg.UniLoss("ndcg:k=10"),
    }
    return losses, (torch.randn(n // items, items, generator=g) + targets, targets)


def embeddings(n: int, of_a_class: int) -> tuple[dict[str, Loss], tuple[Tensor, Tensor]]:
    """64 numbers a row."""
    g = torch.Generator().manual_seed(0)
    targets = torch.arange(n) // of_a_class
    centres = torch.randn(int(targets.max()) + 1, 64, generator=g)
    losses = {
        "triplet": make_loss("triplet", "map_at_r"),
        "uniloss map_at_r": mg.UniLoss("map_at_r"),
        "uniloss retrieval_recall": mg.UniLoss("retrieval_recall"),
    }
    return losses, (torch.randn(n, 64, generator=g) + 0.5 * centres[targets], targets)


KINDS: dict[str, tuple[Callable[[int, int], Any], int]] = {
    "labels": (labels, 20), "classes": (classes, 10), "queries": (queries, 16), "embeddings": (embeddings, 8),
}  # fmt: skip


def cell(kind: str, n: int) -> dict[str, float]:
    """Medians of all losses, which take turns."""
    make, size = KINDS[kind]
    losses, batch = make(n, size)
    times: dict[str, list[float]] = {name: [] for name in losses}
    for loss in losses.values():
        for _ in range(4):
            step(loss, *batch)
    gc.disable()
    for _ in range(15):
        for name, loss in losses.items():
            times[name].append(step(loss, *batch))
        gc.collect()
    gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}


def bars(cells: dict[str, dict[str, float]]) -> list[list[Any]]:
    """That a function of torchmetrics costs at most 1.5 times what is built in: the worst over sizes."""
    found = []
    for kind, theirs, ours in (
        ("labels", "uniloss of torchmetrics' AP", "uniloss average_precision"),
        ("labels", "uniloss of torchmetrics' F1", "uniloss macro_f1"),
        ("classes", "uniloss of torchmetrics' AUROC", "uniloss auroc"),
    ):
        ratio = max(cells[f"{kind}/{n}"][theirs] / cells[f"{kind}/{n}"][ours] for n in SIZES)
        found.append([f"{theirs} over {kind}: at most 1.5 times the built-in", ratio, ratio <= 1.5])
    return found


def main() -> None:
    """Run what is missing, and write the JSON."""
    warnings.simplefilter("ignore")
    if "--cell" in sys.argv:
        print(json.dumps({f"{kind}/{n}": cell(kind, n) for kind in KINDS for n in SIZES}))
        return
    store = Store("lists_cost", PROCESSES)
    runs = [
        store.get(str(number)) or store.add(str(number), in_process(__file__, str(number), **KEPT))
        for number in track(range(PROCESSES), "lists_cost")
    ]
    cells = {
        key: {name: statistics.median(run[key][name] for run in runs) for name in times}
        for key, times in runs[0].items()
    }
    store.finish(cells=cells, bars=bars(cells))


if __name__ == "__main__":
    main()
