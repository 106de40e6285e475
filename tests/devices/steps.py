"""Steps whose kernels and synchronisations are counted, by the tests and for docs/devices.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.metrics.built_in import table
from tests.devices.counting import Seen, watch

_ATTACHED = 6  # of a training; after 4, 8, 16 the shape of the learned loss is noted besides
_STEPS = 24  # of 48 rows, after which the memories are full

Batch = Callable[[int], tuple[Any, ...]]  # scores, targets, and what comes along


def binary(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = (torch.arange(rows) % 3 == 0).long()
    return torch.randn(rows, generator=g) + targets, targets


def classes(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = torch.arange(rows) % 10
    return torch.randn(rows, 10, generator=g) + 2 * nn.functional.one_hot(targets, 10), targets


def embeddings(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(0)), torch.arange(rows) % 8


def values(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = torch.randn(rows, generator=g)
    return targets + torch.randn(rows, generator=g), targets


def labels(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(rows, 20, generator=g) < 0.3).long()
    return torch.randn(rows, 20, generator=g) + targets, targets


def weighted(rows: int) -> tuple[Any, ...]:
    return *labels(rows), {"sample_weight": torch.arange(rows) % 3 + 0.5}


def grades(rows: int) -> tuple[Tensor, Tensor]:
    scores, targets = labels(rows)
    return scores, targets * (torch.arange(20) % 3 + 1)


def queries(rows: int) -> tuple[Any, ...]:
    return *binary(rows), {"groups": torch.arange(rows) // 8}


def class_maps(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, rows // 4, generator=g), torch.randint(3, (4, 8, rows // 4), generator=g)


def masks(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(4, 8, rows // 4, generator=g) < 0.3).long()
    return torch.randn(targets.shape, generator=g) + targets, targets


def sentences(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(8, rows // 4, 30, generator=g), torch.randint(30, (8, rows // 4), generator=g)


def spans(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    start = torch.randint(10, (rows,), generator=g)
    return torch.randn(rows, 2, 20, generator=g), torch.stack([start, start + 3], 1)


def heat_maps(rows: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows // 4, 4, 16, 16, generator=g), 15 * torch.rand(rows // 4, 4, 2, generator=g)


def _of(spec: str, batch: Batch, **options: Any) -> tuple[Callable[[], nn.Module], Batch]:
    return lambda: mg.UniLoss(spec, **options), batch


OF_CLASSES = (
    "accuracy", "macro_f1", "balanced_accuracy", "kappa", "quadratic_kappa", "mcc", "g_mean", "mean_iou",
    "top_k_accuracy:k=5",
)  # fmt: skip
OF_ONE_SCORE = ("f1", "accuracy", "mcc", "average_precision", "auroc", "recall_at_precision")
OF_LABELS = ("macro_f1", "samples_f1", "accuracy", "average_precision")
SYSTEMS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    **{f"UniLoss {spec}, 10 classes": _of(spec, classes) for spec in OF_CLASSES},
    **{f"UniLoss {spec}, one score": _of(spec, binary) for spec in OF_ONE_SCORE},
    "cross-entropy of torch": (nn.CrossEntropyLoss, classes),
}

#: Steps of many lists, which remember nothing.
LISTS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    **{f"UniLoss {spec}, 20 labels": _of(spec, labels) for spec in OF_LABELS},
    "UniLoss average_precision, 20 labels of weighted rows": _of("average_precision", weighted),
    "UniLoss auroc, 10 classes": _of("auroc", classes),
    "UniLoss mrr, a list in each row": _of("mrr", labels),
    "UniLoss ndcg, a graded list in each row": _of("ndcg", grades),
    "UniLoss map_at_r, embeddings": _of("map_at_r", embeddings),
    "UniLoss retrieval_recall, embeddings": _of("retrieval_recall", embeddings),
    "UniLoss spearman, one value": _of("spearman", values),
    "UniLoss kendall, one value": _of("kendall", values),
}

_OF_ROWS: dict[str, dict[str, Batch]] = {
    "labels": {"one score": binary, "classes": classes, "labels": labels, "class maps": class_maps, "masks": masks},
    "unit": {"one score": binary, "classes": classes, "labels": labels},
    "gains": {"one score": binary, "classes": classes, "labels": labels, "queries": queries},
    "real": {"one value": values},
}
_OF_OTHERS: dict[str, dict[str, Batch]] = {
    "Embeddings": {"embeddings": embeddings},
    "Sentences": {"sentences": sentences},
    "Spans": {"spans": spans},
    "HeatMaps": {"heat maps": heat_maps},
}


def built_in() -> dict[tuple[str, str], tuple[Callable[[], nn.Module], Batch]]:
    """Of each built-in metric, on the batches that are its own."""
    found: dict[tuple[str, str], tuple[Callable[[], nn.Module], Batch]] = {}
    for name in sorted(table()):
        metric = mg.as_metric(name)
        batches = _OF_OTHERS.get(type(metric.layout).__name__) or _OF_ROWS[metric._targets]
        for of, batch in batches.items():
            scores, targets, *along = batch(64)
            try:
                mg.UniLoss(name)(scores, targets, **(along[0] if along else {}))
            except mg.MetricgradError:  # not for such batches
                continue
            found[name, of] = _of(name, batch)
    return found


#: Steps whose score sets are made on the way.
OF_SETS: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    "UniLoss average_precision by inverse distances": _of(
        "average_precision", binary, interpolation="inverse_distance"
    ),
}


def steady(system: tuple[Callable[[], nn.Module], Batch], rows: int, device: str, steps: int = _STEPS) -> Seen:
    """Forward and backward of a loss, after the first steps."""
    make, batch = system
    loss, (scores, targets, *along) = make(), batch(rows)
    context = {name: value.to(device) for name, value in along[0].items()} if along else {}
    scores, targets = scores.to(device), targets.to(device)

    def step() -> None:
        loss(scores.detach().requires_grad_(), targets, **context).backward()

    return _last(step, steps)


def attached(make: Callable[[], mg.Loss], device: str, *, depth: int) -> Seen:
    """A whole training step under AdamW, after the first ones."""
    torch.manual_seed(0)
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(8, 8), nn.Tanh())]
    model = nn.Sequential(nn.Linear(6, 8), *hidden, nn.Linear(8, 10)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)).to(device)
    targets = (torch.arange(60) % 10).to(device)
    loss = make()
    handle = loss.attach(model, optimizer, valid=[(inputs[40:], targets[40:])])

    def step() -> None:
        optimizer.zero_grad()
        loss(model(inputs[:40]), targets[:40]).backward()
        optimizer.step()

    seen = _last(step, _ATTACHED)
    handle.detach()
    return seen


def _last(step: Callable[[], None], steps: int) -> Seen:
    for _ in range(steps - 1):
        step()
    with watch() as seen:
        step()
    return seen
