"""Time and memory of UniLoss(AP) beside BCE and beside itself with all pairs stored; ResNet-20 steps beside CE's;
metrics of labels beside CE, with up to 10,000 classes and 4,096 rows.

Each cell is a process of its own. Memory is the rise of the process's peak (ru_maxrss) from the point where scores and
targets exist and a batch of 64 has gone through the same loss, so that lazily loaded libraries are not counted.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import statistics
import sys
import time
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import RESULTS, Store, arguments, in_process
from metricgrad.functional.kernels import Kernel
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.refactoring.ranking import rankings  # noqa: F401  (so that all that sum over pairs are imported)

SIZES = (1024, 4096, 16384, 65536)
LOSSES = ("bce", "uniloss", "naive")
REPEATS = 3  # processes a cell; the median is reported
USERS = [m for name, m in sys.modules.items() if name.startswith("metricgrad.refactoring") and hasattr(m, "pair_sum")]
CLASSES = (10, 1_000, 10_000)
OF_CLASSES = ("accuracy", "macro_f1", "balanced_accuracy", "kappa", "quadratic_kappa", "top_k_accuracy:k=5")
ROWS = 64
LABEL_GRID = (
    *((rows, classes) for rows in (64, 256, 1024, 4096) for classes in (2, 10, 100)),
    (64, 1_000),
    (64, 10_000),
)
OLD_ROWS = 1024
"""Decisions that have gone by before a step is measured, so that the memory is full."""
NAIVE_LIMIT = 16384  # beyond it the stored pairs take about 1.6 GB for each tensor


def dense(x: Tensor, y: Tensor, weights: Tensor | None = None, *, kernel: Kernel, engine: str = "auto") -> Tensor:
    """What ``pair_sum`` computes, with a tensor of all pairs: the way a loss is usually written."""
    pairs = kernel(x.double()[:, None] - y.double()[None, :])
    return (pairs if weights is None else pairs * weights.double()).sum(1).to(x.dtype)


def batch(n: int) -> tuple[Tensor, Tensor]:
    """5 % positives; the scores of a half-trained network."""
    generator = torch.Generator().manual_seed(n)
    targets = torch.zeros(n, dtype=torch.long)
    targets[: n // 20] = 1
    return torch.randn(n, generator=generator) + 1.5 * targets, targets


def loss_of(name: str) -> nn.Module:
    """A fresh loss; ``naive`` is the same UniLoss, its sums over pairs made dense."""
    if name == "bce":
        return nn.BCEWithLogitsLoss()
    for module in USERS:
        vars(module)["pair_sum"] = dense if name == "naive" else pair_sum
    return mg.UniLoss("average_precision", softness=1.0, seed=0)


def step(loss: nn.Module, scores: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Forward and backward: the value and the gradient."""
    leaf = scores.detach().requires_grad_()
    value = loss(leaf, targets)
    value.backward()
    assert leaf.grad is not None
    return float(value), leaf.grad


def measure(name: str, n: int) -> dict[str, float]:
    """In a process of its own: milliseconds, megabytes, and how far the value is from the dense one."""
    scores, targets = batch(n)
    kind = torch.float if name == "bce" else torch.long
    step(loss_of(name), *(part.to(d) for part, d in zip(batch(64), (torch.float, kind), strict=True)))
    targets = targets.to(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    value, grad = step(loss_of(name), scores, targets)
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = []
    for _ in range(3 if name == "naive" and n > 10_000 else 15):
        loss = loss_of(name)
        start = time.perf_counter()
        step(loss, scores, targets)
        times.append(time.perf_counter() - start)
    out = {"ms": 1e3 * statistics.median(times), "mb": rise, "value": value}
    if name == "uniloss" and n <= NAIVE_LIMIT:
        exact, exact_grad = step(loss_of("naive"), scores, targets)
        out["value_error"] = abs(value - exact)
        out["gradient_error"] = float((grad - exact_grad).norm() / exact_grad.norm())
    return out


def resnet_steps(name: str) -> dict[str, Any]:
    """Paired steps at batch 128 on random 32 x 32 images: CE and one of ours, each with its own network."""
    from tasks.cifar.model import resnet20

    torch.manual_seed(0)
    inputs, targets = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    cells = []
    ours = mg.ReLoss.pretrained("accuracy") if name == "reloss" else mg.UniLoss("accuracy", anchored=False)
    for loss in (nn.CrossEntropyLoss(), ours):
        model = resnet20().train()
        cells.append((model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loss))
    ratios, times = [], []
    for number in range(28):
        pair = []
        for which in (0, 1) if number % 2 else (1, 0):  # alternate who goes first
            model, optimizer, loss = cells[which]
            start = time.perf_counter()
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
            pair.append((which, time.perf_counter() - start))
        theirs, mine = (seconds for _, seconds in sorted(pair))
        if number >= 3:
            ratios.append(mine / theirs)
            times.append((1e3 * theirs, 1e3 * mine))
    quartiles = statistics.quantiles(ratios, n=4)
    return {"ratio": statistics.median(ratios), "quartiles": [quartiles[0], quartiles[2]], "steps": len(ratios),
            "ce_ms": statistics.median(t[0] for t in times),
            "ours_ms": statistics.median(t[1] for t in times)}  # fmt: skip


def of_classes(metric: str, classes: int) -> dict[str, float]:
    """Of 64 random rows, forward and backward: times of CE's step, and the rise of the peak in score matrices."""

    def drawn(columns: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(columns)
        return torch.randn(ROWS, columns, generator=generator), torch.randint(columns, (ROWS,), generator=generator)

    scores, targets = drawn(classes)

    def losses() -> dict[str, nn.Module]:
        ours = {"alone": mg.UniLoss(metric, anchored=False), "default": mg.UniLoss(metric)}
        return {**ours, "ce": nn.CrossEntropyLoss()}

    for loss in losses().values():
        step(loss, *drawn(7))
    out: dict[str, float] = {}
    before, cells = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, losses()
    for name in ("alone", "default"):
        step(cells[name], scores, targets)
        rise = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        out[f"{name}_matrices"] = rise / (scores.numel() * scores.element_size())
    times: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(15):
        for name, loss in cells.items():
            start = time.perf_counter()
            step(loss, scores, targets)
            times[name].append(time.perf_counter() - start)
    out["ce_ms"] = 1e3 * statistics.median(times["ce"])
    for name in ("default", "alone"):
        pairs = zip(times[name], times["ce"], strict=True)
        out[name] = statistics.median(ours / theirs for ours, theirs in pairs)
    return out


def of_labels(rows: int, classes: int) -> dict[str, float]:
    """Processor time of a step of each metric as it comes, in times of CE's: the losses take turns in one process."""
    generator = torch.Generator().manual_seed(classes)
    targets = torch.randint(classes, (rows,), generator=generator)
    scores = torch.randn(rows, classes, generator=generator) + 2 * nn.functional.one_hot(targets, classes)
    found: dict[str, nn.Module] = {"ce": nn.CrossEntropyLoss()}
    found |= {name: mg.UniLoss(name) for name in OF_CLASSES if not name.startswith("top_k") or classes > 5}
    for loss in found.values():
        for _ in range(max(5, OLD_ROWS // rows)):
            step(loss, scores, targets)
    times: dict[str, list[float]] = {name: [] for name in found}
    gc.disable()
    for _ in range(40 if rows * classes < 50_000 else 15):
        for name, loss in found.items():
            leaf = scores.clone().requires_grad_()
            start = time.process_time()
            loss(leaf, targets).backward()
            times[name].append(time.process_time() - start)
        gc.collect()
    gc.enable()
    ce = statistics.median(times.pop("ce"))
    return {"ce_ms": 1e3 * ce, **{name: statistics.median(each) / ce for name, each in times.items()}}


def cell(words: list[str]) -> dict[str, Any]:
    """What a process of its own measures."""
    if words[0] == "resnet":
        return resnet_steps(words[1])
    if words[0] == "labels":
        return of_labels(int(words[1]), int(words[2]))
    return of_classes(words[1], int(words[2])) if words[0] == "classes" else measure(words[0], int(words[1]))


def main() -> None:
    """Run what is missing, write the JSON."""
    if "--cell" in sys.argv:
        print(json.dumps(cell(sys.argv[sys.argv.index("--cell") + 1 :])))
        return
    only = arguments(__doc__, ("pairs", "resnet", "classes", "labels")).only
    store, kept = Store("cost", REPEATS), RESULTS / "cost.json"
    before = json.loads(kept.read_text()) if kept.exists() else {}
    table: dict[str, dict[str, float]] = before.get("cells", {})
    if "pairs" in only:
        cells = [(name, n) for n in SIZES for name in LOSSES if name != "naive" or n <= NAIVE_LIMIT]
        for name, n in track(cells, "cost"):
            runs = []
            for repeat in range(REPEATS):
                key = f"{name}/{n}/{repeat}"
                runs.append(store.get(key) or store.add(key, in_process(__file__, name, str(n))))
            table[f"{name}/{n}"] = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
    resnet = before.get("resnet", {})
    if "resnet" in only:
        for name in ("uniloss", "reloss"):
            resnet[name] = store.get(key := f"resnet/{name}") or store.add(key, in_process(__file__, "resnet", name))
    classes = before.get("classes", {})
    if "classes" in only:
        for name, count in track([(name, count) for name in OF_CLASSES for count in CLASSES], "classes"):
            key = f"classes/{name}/{count}"
            classes[f"{name}/{count}"] = store.get(key) or store.add(
                key, in_process(__file__, "classes", name, str(count))
            )
    labels = before.get("labels", {})
    if "labels" in only:
        for rows, count in track(LABEL_GRID, "labels"):
            runs = []
            for repeat in range(REPEATS):
                key = f"labels/{rows}/{count}/{repeat}"
                runs.append(store.get(key) or store.add(key, in_process(__file__, "labels", str(rows), str(count))))
            labels[f"{rows}/{count}"] = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
    growth = math.log(table["uniloss/65536"]["ms"] / table["uniloss/16384"]["ms"]) / math.log(4)
    ours, naive = table["uniloss/16384"], table["naive/16384"]
    bars = [
        ["at N = 16,384 at least 10 times as fast as naive", naive["ms"] / ours["ms"], naive["ms"] / ours["ms"] >= 10],
        ["at N = 16,384 under 64 MB added", ours["mb"], ours["mb"] < 64],
        ["at N = 16,384 value within 1e-5 of the dense one", ours["value_error"], ours["value_error"] <= 1e-5],
        ["from 16,384 to 65,536 time grows at most as N^1.3 (exponent)", growth, growth <= 1.3],
        *(
            [f"{name}: ResNet-20 step at batch 128 at most 1.05 of CE's", step["ratio"], step["ratio"] <= 1.05]
            for name, step in resnet.items()
        ),
        *_of_many_classes(classes),
        *_of_labels(labels),
    ]
    store.finish(cells=table, resnet=resnet, classes=classes, labels=labels, bars=bars)


def _of_many_classes(classes: dict[str, dict[str, float]]) -> list[list[Any]]:
    """Bars of the largest number of classes."""
    found = [classes[key] for name in OF_CLASSES if (key := f"{name}/{CLASSES[-1]}") in classes]
    if not found:
        return []
    slowest = max(max(row["default"], row["alone"]) for row in found)
    largest = max(max(row["alone_matrices"], row["default_matrices"]) for row in found)
    size = f"metrics of labels at {ROWS} x {CLASSES[-1]:,} classes"
    pairs = []
    for count in CLASSES:
        most, times = 8 if count <= 100 else 10, max(classes[f"{name}/{count}"]["default"] for name in OF_CLASSES)
        said = f"metrics of labels at {ROWS} x {count:,}: CE right after ours, at most {most} times its cost"
        pairs.append([said, times, times <= most])
    return [
        *pairs,
        [f"{size}: under 100 times the cost of CE", slowest, slowest < 100],
        [f"{size}: memory under 20 score matrices", largest, largest < 20],
    ]


def _of_labels(labels: dict[str, dict[str, float]]) -> list[list[Any]]:
    """Bars of each size, of the slowest metric."""
    found = []
    for rows, classes in LABEL_GRID:
        if (times := labels.get(f"{rows}/{classes}")) is not None:
            most, slowest = 8 if classes <= 100 else 10, max(t for name, t in times.items() if name != "ce_ms")
            said = f"metrics of labels at {rows:,} x {classes:,}: in turn, at most {most} times the cost of CE"
            found.append([said, slowest, slowest <= most])
    return found


if __name__ == "__main__":
    main()
