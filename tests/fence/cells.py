"""Every cell by name: metrics and their interpolations, refactorings, forms under aligners, losses by name,
decisions.

Things are looked up by the names they are registered under, so that the same cells are found wherever files have moved.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.aligners.fitting.block_fitting import BlockFitting
from metricgrad.grid import ALIGNERS, FORMS
from tests.fence.decision_cells import decision_cells
from tests.fixtures import trainings as t

Found = dict[str, Tensor]

#: metrics with other parameters than their defaults
_SPECS = (
    "fbeta:beta=2.0", "fbeta:beta=0.5,average=macro", "jaccard:average=macro", "dice:background=True",
    "mean_iou:background=False", "top_k_accuracy:k=1", "precision_at_k:k=3", "recall_at_k:k=3", "hit_rate:k=1",
    "ndcg:k=5", "ndcg:exponential=True", "recall_at_precision:precision=0.5", "retrieval_recall:k=3", "pck:radius=1.5",
    "bleu:smooth=add_k", "bleu:order=2,end=0", "quadratic_kappa:num_classes=6", "exact_match:max_length=2",
)  # fmt: skip

_MODES: dict[str, dict[str, Any]] = {
    "local": {},
    "local fixed": {"softness": 1.0},
    "local auto": {"softness": "auto"},
    "local share": {"softness": 0.7, "share": 0.5, "q": 0.8},
    "inverse": {"interpolation": "inverse_distance"},
    "inverse fixed": {"interpolation": "inverse_distance", "softness": 1.0, "power": 2.0, "anchors": 8},
    "inverse released gradient": {"interpolation": "inverse_distance", "gradient": "released"},
    "paper": {"paper": True},
    "released": {"paper": "released"},
}

_ROWS = ("binary", "multiclass", "multilabel", "regression", "gains")
#: metrics of other batches than rows of scores; a layout that a metric refuses is a cell too
_LAYOUTS = {
    "accuracy": (*_ROWS, "sentences"), "bleu": ("sentences", "binary"), "span_f1": ("spans", "binary"),
    "exact_match": ("spans",), "pck": ("heat_maps", "binary"), "map_at_r": ("embeddings", "binary"),
    "retrieval_recall": ("embeddings",), "nmi": ("embeddings",),
}  # fmt: skip
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def cells() -> Iterator[tuple[str, Callable[[], Found]]]:
    """All cells: a name that stays, and what it computes."""
    for spec in (*mg.list_metrics(), *_SPECS):
        for layout in _layouts(spec):
            yield f"metric {spec}, {layout}", partial(_metric, spec, layout)
            yield f"refactoring {spec}, {layout}", partial(_refactoring, spec, layout)
            for mode in _MODES:
                for dtype in _DTYPES:
                    yield f"uniloss {spec}, {layout}, {mode}, {dtype}", partial(_uniloss, spec, layout, mode, dtype)
        yield from _with_context(spec)
    yield from _large()
    yield from _foreign()
    for name, (make, layout) in t.cells().items():
        for dtype in _DTYPES:
            yield f"cell {name}, fresh, {dtype}", partial(_fresh, make, layout, dtype)
        yield f"cell {name}, trained", partial(_trained, make, layout)
    for name, optimizer in _OPTIMIZERS.items():
        yield f"look_ahead under {name}", partial(_look_ahead, optimizer)
    for name in _function("list_losses")():
        for layout, metric in _METRIC_OF.items():
            for dtype in _DTYPES:
                yield f"loss {name}, {layout}, {dtype}", partial(_by_name, name, metric, layout, dtype)
    for kind, (_, layout, metric) in t.FORMS_OF_THE_GRID.items():
        yield f"fit of {kind}", partial(_fitted, kind, layout, metric)
    yield from decision_cells()
    for name in mg.functional.__all__:
        yield f"functional {name}", partial(_functional, name)


def _layouts(spec: str) -> tuple[str, ...]:
    return _LAYOUTS.get(spec.partition(":")[0], _ROWS)


@cache
def _function(name: str) -> Callable[..., Any]:
    """A function or class of the library by its name, in whichever file it is."""
    root = Path(mg.__file__).parent
    for path in sorted(root.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name for node in body):
            module = ".".join(("metricgrad", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            return getattr(importlib.import_module(module), name)
    raise LookupError(f"nothing in metricgrad is called {name}")


def _batch(layout: str, dtype: str = "float64") -> tuple[Tensor, Tensor]:
    scores, targets = t.batch(layout)
    return (scores.float() if dtype == "float32" else scores), targets


def _calls(loss: Callable[..., Tensor], scores: Tensor, targets: Tensor, n: int = 2, **context: Tensor) -> Found:
    """Values and gradients of calls one after another: counters and softness move between them."""
    found: Found = {}
    for call in range(n):
        leaf = (scores * (1 + 0.1 * call)).detach().requires_grad_()
        value = loss(leaf, targets, **context)
        (gradient,) = torch.autograd.grad(value, leaf)
        found[f"value {call}"], found[f"gradient {call}"] = value, gradient
    return found


# ---- metrics


def _metric(spec: str, layout: str) -> Found:
    scores, targets = _batch(layout)
    metric = mg.as_metric(spec)
    stack = torch.stack([scores, -scores, scores.roll(1, 0), torch.zeros_like(scores)])
    return {"value": metric(scores.float(), targets), "over": metric.over(stack, targets)}


def _refactoring(spec: str, layout: str) -> Found:
    scores, targets = _batch(layout)
    refactoring = mg.infer_refactoring(mg.as_metric(spec), scores, targets)
    leaf = scores.requires_grad_()
    comparisons = refactoring.comparisons(leaf, targets)
    pull = torch.linspace(-1, 1, len(comparisons)).to(comparisons)
    (slopes,) = torch.autograd.grad((comparisons * pull).sum(), leaf)
    binaries = (comparisons > 0).detach()
    return {
        "comparisons": comparisons,
        "gradient": slopes,
        "scores_from": refactoring.scores_from(binaries, scores.detach(), targets),
    }


def _uniloss(spec: str, layout: str, mode: str, dtype: str) -> Found:
    loss = mg.UniLoss(spec, seed=1, **_MODES[mode])
    return _calls(loss, *_batch(layout, dtype))


def _with_context(spec: str) -> Iterator[tuple[str, Callable[[], Found]]]:
    n = t.ROWS
    contexts = {
        "mask": torch.arange(n) % 5 != 0,
        "groups": torch.arange(n) // 8,
        "sample_weight": 0.5 + torch.arange(n) % 3,
        "head_sizes": 1.0 + torch.arange(n) % 4,
    }
    for layout in _layouts(spec):
        for name, value in contexts.items():
            for mode in ("local", "inverse"):
                yield (
                    f"uniloss {spec}, {layout}, {mode}, with {name}",
                    partial(_in_context, spec, layout, mode, {name: value}),
                )


def _in_context(spec: str, layout: str, mode: str, context: dict[str, Tensor]) -> Found:
    scores, targets = _batch(layout)
    context = {name: value.to(scores.device) for name, value in context.items()}
    value = mg.as_metric(spec)(scores, targets, **context)
    return {"metric": value, **_calls(mg.UniLoss(spec, seed=1, **_MODES[mode]), scores, targets, **context)}


def _large() -> Iterator[tuple[str, Callable[[], Found]]]:
    """Batches at which the near-linear sums begin."""
    for spec in ("auroc", "average_precision", "ndcg", "mrr", "spearman", "precision_at_k", "f1", "macro_f1"):
        for columns in (None, 3):
            for mode in ("local fixed", "inverse fixed"):
                for dtype in _DTYPES:
                    name = f"uniloss {spec}, 700 rows of {columns or 1}, {mode}, {dtype}"
                    yield name, partial(_uniloss_of_many, spec, columns, mode, dtype)


def _uniloss_of_many(spec: str, columns: int | None, mode: str, dtype: str) -> Found:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(700, *([columns] if columns else []), generator=generator)
    targets = (torch.rand(scores.shape, generator=generator) < 0.4).long()
    scores, targets = scores.to(t.DEVICE, _DTYPES[dtype]), targets.to(t.DEVICE)
    return _calls(mg.UniLoss(spec, seed=1, **_MODES[mode]), scores, targets, 1)


# ---- metrics of the user's own, whose refactoring is found by probing


def _right(labels: Tensor, targets: Tensor) -> float:
    return float((labels == targets).double().mean())


def _kappa(targets: Any, labels: Any) -> float:
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(targets, labels, weights="quadratic"))


def _precision(targets: Any, probabilities: Any) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(targets, probabilities))


def _margin(scores: Tensor, targets: Tensor) -> float:
    return float((scores.sigmoid() - targets).abs().mean())


def _foreign() -> Iterator[tuple[str, Callable[[], Found]]]:
    makers: dict[str, tuple[Callable[[], mg.Metric], str]] = {
        "share right": (lambda: mg.as_metric(_right, higher_is_better=True, reads="labels"), "multiclass"),
        "F2": (t.foreign, "binary"),
        "F2 by column": (t.foreign, "multilabel"),
        "kappa": (
            lambda: mg.as_metric(_kappa, higher_is_better=True, reads="labels", inputs="numpy", order="targets_first"),
            "multiclass",
        ),
        "average precision": (
            lambda: mg.as_metric(
                _precision, higher_is_better=True, reads="probabilities", inputs="numpy", order="targets_first"
            ),
            "binary",
        ),
        "mean error": (lambda: mg.as_metric(_margin, higher_is_better=False, reads="scores"), "binary"),
        "sklearn f1": (lambda: mg.as_metric(_sklearn("f1_score"), average="macro"), "multiclass"),
        "sklearn auroc": (lambda: mg.as_metric(_sklearn("roc_auc_score")), "binary"),
        "torchmetrics F1": (lambda: mg.as_metric(_torchmetrics("MulticlassF1Score", num_classes=5)), "multiclass"),
        "torchmetrics AUROC": (lambda: mg.as_metric(_torchmetrics("BinaryAUROC")), "binary"),
    }
    for name, (make, layout) in makers.items():
        for mode in ("local", "inverse", "paper"):
            yield f"uniloss of the user's {name}, {mode}", partial(_uniloss_of, make, layout, mode)


def _sklearn(name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module("sklearn.metrics"), name)


def _torchmetrics(name: str, **options: Any) -> Any:
    return getattr(importlib.import_module("torchmetrics.classification"), name)(**options)


def _uniloss_of(make: Callable[[], mg.Metric], layout: str, mode: str) -> Found:
    return _calls(mg.UniLoss(make(), seed=1, **_MODES[mode]), *_batch(layout))


# ---- forms, aligners and losses by name


def _fresh(make: Callable[[], mg.Loss], layout: str, dtype: str) -> Found:
    return _calls(make(), *_batch(layout, dtype))


def _trained(make: Callable[[], mg.Loss], layout: str) -> Found:
    """What the aligner makes of the form before training and in three steps, and where four more steps lead."""
    loss = make()
    if isinstance(loss.aligner, BlockFitting):
        loss.prepare(*t.batch(layout))
    weights = t.train(loss, layout, 3)
    state = {name: value for name, value in loss.undescribed_state().items() if isinstance(value, Tensor)}
    moved = torch.cat([value.flatten().cpu().double() for value in state.values()])  # a policy stays on the CPU
    return {"weights after 3": weights, "state after 3": moved, **t.reached(loss, layout)}


_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1),
    "SGD with Nesterov momentum": lambda params: torch.optim.SGD(
        params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.05, weight_decay=0.01),
    "Adam with amsgrad": lambda params: torch.optim.Adam(params, lr=0.05, amsgrad=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.05),
}


def _look_ahead(optimizer: Callable[[Any], torch.optim.Optimizer]) -> Found:
    """Five steps of a network with batch norm, with and without clipping, and over two steps of accumulation."""
    found: Found = {}
    for how in ("plain", "clipped", "accumulated", "two steps"):
        steps = 2 if how == "two steps" else 1
        loss = mg.Loss(FORMS["neural"](5), ALIGNERS["look_ahead"](lr=0.01, steps=steps, every=steps))
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5)).double().to(t.DEVICE)
        optim = optimizer(model.parameters())
        handle = loss.attach(model, optim, valid=[t.part("multiclass", "valid")], total_steps=5)
        inputs, targets = t.part("multiclass", "train")
        for _ in range(5):
            optim.zero_grad()
            for rows in (slice(0, 16), slice(16, 32)) if how == "accumulated" else (slice(None),):
                loss(model(inputs[rows]), targets[rows]).backward()
            if how == "clipped":
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optim.step()
        handle.detach()
        found[f"{how}: form"] = torch.cat([p.detach().flatten() for p in loss.form.parameters()])
        found[f"{how}: model"] = torch.cat([p.detach().flatten() for p in model.parameters()])
    return found


_METRIC_OF = {
    "binary": "average_precision", "multiclass": "macro_f1", "multilabel": "macro_f1", "regression": "mse",
    "embeddings": "map_at_r", "heat_maps": "pck", "sentences": "bleu", "spans": "span_f1",
}  # fmt: skip


def _by_name(name: str, metric: str, layout: str, dtype: str) -> Found:
    spec = {"proxy_anchor": "proxy_anchor:num_classes=61,embedding_size=8"}.get(name, name)
    loss = _function("make_loss")(spec, metric, seed=1)
    return _calls(loss, *_batch(layout, dtype))


def _fitted(kind: str, layout: str, metric: str) -> Found:
    """A network form fitted as ``ReLoss`` fits it, and its report."""
    make, _, _ = t.FORMS_OF_THE_GRID[kind]
    scores, targets = (x.repeat(6, *[1] * (x.ndim - 1)) for x in t.batch(layout))
    generator = torch.Generator().manual_seed(2)
    scores = scores + 0.5 * torch.randn(scores.shape, generator=generator, dtype=torch.float64).to(scores)
    loss = mg.ReLoss.fit(metric, scores.float(), targets, form=make(), steps=5, block=16, values=8, restarts=1)
    report = loss.report()
    numbers = [value for value in report.values() if isinstance(value, int | float)]
    return {
        **_calls(loss, *_batch(layout)),
        "report": torch.tensor([*numbers, report["correlation"]["value"]], dtype=torch.float64),
    }


def _functional(name: str) -> Found:
    scores, targets = _batch("regression")
    function = getattr(mg.functional, name)
    leaf = scores.requires_grad_()
    found = function(leaf, targets.double()) if name in ("spearman", "kendall") else function(leaf)
    if not found.requires_grad:
        return {"value": found}
    pull = torch.linspace(-1, 1, found.numel()).view_as(found).to(found.device)
    (slopes,) = torch.autograd.grad((found * pull).sum(), leaf)
    return {"value": found, "gradient": slopes}
