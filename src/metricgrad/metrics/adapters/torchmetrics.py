"""torchmetrics' functions and objects.

torchmetrics decides at every call, from the values it is given, whether they are logits or probabilities: F1 of logits
that happen to lie in (0, 1) is another number than F1 of the same logits with one at 1.5 among them, and its retrieval
metrics count an item with a negative score as not retrieved. So nothing here hands over a logit:

- label metrics get labels, cut at one half or argmaxed here;
- metrics of the order get ranks scaled into (0, 1): a float32 sigmoid or softmax saturates, and would tie what the
  scores tell apart;
- the rest get probabilities.

Objects are cloned, reset around every call, moved to the scores' device and never synchronised across processes: a
loss asks for the value of its own batch, and a rank that waits for others in the middle of a step hangs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.adapters.torchmetrics_table import KNOWN, TorchmetricsEntry
from metricgrad.metrics.adapters.twins import twin_of_torchmetrics
from metricgrad.metrics.layouts.layout import GIVEN, ROWS
from metricgrad.metrics.types import Structure

_TASKS = ("binary", "multiclass", "multilabel")
_SET = (
    "average", "beta", "weights", "ignore_index", "threshold", "thresholds", "top_k", "max_fpr", "multidim_average",
    "zero_division", "variant", "num_classes", "num_outputs", "empty_target_action", "aggregation", "adaptive_k",
)  # fmt: skip


@dataclass(frozen=True)
class Described:
    """One torchmetrics metric: its entry in the table, its task, how its options are set, and if it is an object."""

    entry: TorchmetricsEntry
    task: str | None
    options: Mapping[str, Any]
    is_object: bool = False

    @property
    def takes_queries(self) -> bool:
        """Whether it is told which query each item belongs to; a function gets one query."""
        return self.is_object and self.entry.within == "queries"

    @property
    def top_k(self) -> int:
        """The k of multiclass label metrics; 1 where there is none."""
        return self.options.get("top_k") or 1 if self.task == "multiclass" and self.entry.delivery == "labels" else 1

    @property
    def ignored(self) -> int | None:
        """Targets that are left out of one label or class an item: with them gone the metric is what it is without."""
        return None if self.task == "multilabel" or self.whole_samples else self.options.get("ignore_index")

    @property
    def binned(self) -> bool:
        """Whether a curve is taken at given probabilities, so that more than the order matters."""
        return self.entry.delivery == "order" and self.options.get("thresholds") is not None

    @property
    def whole_samples(self) -> bool:
        """Whether all labels of a sentence or an image count together, so that there must be such samples."""
        return self.entry.whole_rows and self.task == "multiclass"

    def structure(self) -> Structure | None:
        """What is known without probing; None where options reach beyond what a structure can say."""
        entry = self.entry
        if self.options.get("ignore_index") != self.ignored or self.binned:
            return None
        if self.top_k > 1:  # else the classes that a miss is taken for matter too
            of_hits = entry.of_hits or self.options.get("average") == "micro"
            return Structure("top_k", "all", {"k": self.top_k}) if of_hits else None
        if entry.kind == "labels":
            if self.task != "multilabel":
                return Structure("labels", "sample" if self.whole_samples else "all")
            if entry.whole_rows:
                return Structure("labels", "row")
            by_column = self.options.get("average") in ("macro", "weighted")
            return Structure("labels", "column" if by_column else "all", {"two_d": "column"})  # it knows num_labels
        if entry.kind in ("differentiable", None):
            return Structure("differentiable") if entry.kind else None
        within: dict[str, Any] = {"within": entry.within}
        if entry.within == "task":
            pooled = self.task == "binary" or self.options.get("average") == "micro"
            within = {"within": "all" if pooled else "column"}
        elif entry.within == "queries":
            within = {"within": "auto", "two_d": "row"} if self.takes_queries else {"within": "all"}
        return Structure(entry.kind, "all", within)

    def known(self) -> dict[str, Any]:
        """The options of :func:`metricgrad.as_metric` that do not depend on the callable.

        Raises:
            MetricgradError: for labels cut elsewhere than at one half, where neither losses nor predictions cut.
        """
        threshold = self.options.get("threshold", 0.5)
        if threshold != 0.5 and self.entry.delivery == "labels" and self.task != "multiclass":
            raise MetricgradError(f"threshold={threshold}: make it with 0.5 and let mg.fit_decision find the cut")
        by_order = self.entry.delivery == "order" and not self.binned
        reads = {"labels": "labels", "order": "probabilities"}.get(self.entry.delivery, self.entry.delivery)
        if self.top_k > 1:
            reads = "scores"
        return {
            "reads": reads,
            "by_order": by_order,
            "higher_is_better": self.entry.higher,
            "structure": self.structure(),
            "inputs": "torch",
            "order": "scores_first",
            "layout": GIVEN if self.whole_samples else ROWS,
            "ignore_index": self.ignored,
        }

    def prepared(self, read: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and targets in the form torchmetrics documents, with nothing left to guess."""
        delivery = self.entry.delivery
        if self.task is not None:
            targets = _integer_labels(targets)
            if self.task == "binary" and read.ndim == targets.ndim + 1 and read.shape[-1] == 2:
                read = read[..., 1]
        if delivery == "order" and not self.binned:
            read = ranks_in_unit(read)
        elif delivery == "scores" and not targets.is_floating_point():
            targets = targets.to(read.dtype)
        return read, targets

    def picked(self, value: Any) -> Any:
        """The value itself, of metrics that return the threshold beside it."""
        return value[0] if self.entry.with_threshold and isinstance(value, tuple) else value


def describe_function(metric: Callable[..., Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` for a function of ``torchmetrics.functional``."""
    name = getattr(metric, "__name__", "").strip("_")
    task, base = _split(name.replace("_", ""))
    if base not in KNOWN:
        return {}
    parameters = inspect.signature(metric).parameters
    options = {k: p.default for k, p in parameters.items() if p.default is not p.empty} | fixed
    task = task or fixed.get("task") or KNOWN[base].task
    if "task" in parameters and task not in _TASKS:
        raise MetricgradError(f"{name}: say its task, as as_metric({name}, task='binary'); one of {', '.join(_TASKS)}")
    described = Described(KNOWN[base], task, options)
    twin = twin_of_torchmetrics(base, task, _read(options, described))
    return described.known() | {"fn": TorchmetricsAdapter(metric, described), "context": frozenset(), "twin": twin}


def describe_object(metric: Any, fixed: dict[str, Any]) -> dict[str, Any]:
    """Options of :func:`metricgrad.as_metric` for a ``torchmetrics.Metric`` object, or for its class and parameters."""
    if isinstance(metric, type):
        try:
            metric, fixed = metric(**fixed), {}
        except (TypeError, ValueError) as error:
            raise MetricgradError(f"{metric.__name__}({', '.join(fixed)}): {error}") from error
    kinds = [kind.__name__ for kind in type(metric).__mro__ if kind.__module__.startswith("torchmetrics.")]
    if "MetricCollection" in kinds:
        raise MetricgradError(
            "a MetricCollection has many values; pass the one metric to train on, as collection['f1']"
        )
    if "Metric" not in kinds:
        return {}
    if fixed:
        raise MetricgradError(
            f"{type(metric).__name__} is an object and has its parameters: {', '.join(fixed)} cannot be set any more"
        )
    fresh = _Fresh(metric)
    options = {"fn": fresh, "raw": fresh, "fixed": {}, "name": type(metric).__name__, "context": frozenset()}
    for kind in kinds:
        task, base = _split(kind.lower())
        entry = KNOWN.get(base)
        if entry is not None:
            break
    else:
        declared = getattr(metric, "higher_is_better", None)
        return options | ({} if declared is None else {"higher_is_better": declared})
    names = ("average", "ignore_index", "threshold", "thresholds", "top_k")
    described = Described(entry, task or entry.task, {name: getattr(metric, name, None) for name in names}, True)
    if described.options["threshold"] is None:
        described = replace(described, options={**described.options, "threshold": 0.5})
    context = frozenset({"groups"}) if described.takes_queries else frozenset()
    options_set = {name: getattr(metric, name) for name in _SET if hasattr(metric, name)}
    twin = twin_of_torchmetrics(base, described.task, _read(options_set, described))
    found = {"fn": TorchmetricsAdapter(fresh, described), "context": context, "twin": twin}
    return options | described.known() | found


@dataclass(frozen=True)
class TorchmetricsAdapter:
    """A function or a fresh object, called with what it documents."""

    metric: Callable[..., Any]
    described: Described

    def __call__(self, read: Tensor, targets: Tensor, *, groups: Tensor | None = None, **fixed: Any) -> Any:
        """Call it on tensors; the retrieval classes also get the query of each item."""
        prepared = self.described.prepared(read, targets)
        indexes = {"indexes": _queries(read, groups)} if self.described.takes_queries else {}
        return self.described.picked(self.metric(*prepared, **indexes, **fixed))


class _Fresh:
    """A torchmetrics object as a function: what it saw before never counts, and no other process is asked."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric.clone()
        for part in self._metric.modules():
            if hasattr(part, "sync_on_compute"):
                part.sync_on_compute = part.dist_sync_on_step = part._to_sync = False
        self._metric.reset()

    def __call__(self, preds: Tensor, targets: Tensor, **kwargs: Any) -> Any:
        metric = self._metric.to(preds.device)
        for part in metric.modules():
            if hasattr(part, "_enable_grad"):
                part._enable_grad = torch.is_grad_enabled()
        try:
            metric.update(preds, targets, **kwargs)
            return metric.compute()
        finally:
            metric.reset()


def ranks_in_unit(read: Tensor) -> Tensor:
    """Strictly inside (0, 1), in the order of the values, ties kept.

    Example:
        >>> ranks_in_unit(torch.tensor([-30.0, 30.0, 40.0, 30.0])).tolist()
        [0.25, 0.5, 0.75, 0.5]
    """
    values, place = read.unique(return_inverse=True)
    # neighbours stay apart in float32 up to some 2 ** 23 levels
    dtype = torch.float32 if len(values) < 2**22 else torch.float64
    return (place + 1).to(dtype) / (len(values) + 1)


def _read(options: Mapping[str, Any], described: Described) -> Mapping[str, Any]:
    """The options of a metric of batches that were read: what is ignored is gone."""
    return options if described.ignored is None else {**options, "ignore_index": None}


def _split(name: str) -> tuple[str | None, str]:
    for task in _TASKS:
        if name.startswith(task):
            return task, name.removeprefix(task)
    return None, name


def _integer_labels(targets: Tensor) -> Tensor:
    labels = targets.long()
    if targets.is_floating_point() and not bool((labels == targets).all()):
        raise MetricgradError("torchmetrics' classification metrics need whole labels; round soft targets first")
    return labels


def _queries(read: Tensor, groups: Tensor | None) -> Tensor:
    """torchmetrics' indexes: the groups, each row of ``(N, C)`` scores, or all items as one query."""
    if groups is not None:
        return groups.long()
    rows = torch.arange(len(read), device=read.device)
    return rows[:, None].expand(read.shape) if read.ndim == 2 else torch.zeros_like(rows)
