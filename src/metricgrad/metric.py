"""What we are judged by: any callable becomes ``(scores, targets) -> value`` with a direction and a decoder.

Raw scores are logits, always. A metric says once what it wants to see of them (``reads``), and the decoding is done
here, by shape alone and never by looking at values:

===================  =========================================  ====================================
scores / targets     ``reads="probabilities"``                  ``reads="labels"``
===================  =========================================  ====================================
same shape           sigmoid, element by element                ``scores > 0``
(N, C) / (N,)        softmax over the last axis                 argmax over the last axis
===================  =========================================  ====================================

``(N, 1)`` scores with ``(N,)`` targets lose the last axis; ``(B, T, C)`` scores with ``(B, T)`` targets become
``(B * T, C)`` and ``(B * T,)``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

Reads = Literal["scores", "probabilities", "labels"]
Inputs = Literal["torch", "numpy"]
Order = Literal["scores_first", "targets_first"]

_CONTEXT = ("groups", "mask", "sample_weight", "head_sizes")


@dataclass(frozen=True)
class Structure:
    """What is known about a metric without probing it; ``metricgrad.refactoring`` turns it into a refactoring.

    Args:
        kind: ``"labels"`` (only predicted labels matter), ``"top_k"``, ``"ranking"``, ``"positives_over_negatives"``
            or ``"differentiable"``.
        exchangeable: which entries of equal target and prediction may be swapped without a change of the value:
            ``"all"``, ``"column"`` (within a column of a multilabel problem), ``"row"`` or ``"none"``.
        params: parameters of the refactoring, such as ``{"k": 5}`` or ``{"within": "row"}``.
    """

    kind: str
    exchangeable: Literal["all", "column", "row", "none"] = "all"
    params: Mapping[str, Any] = field(default_factory=dict)


def canonical(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bring one batch to the shapes in this module's table, and keep only what the mask keeps.

    Args:
        scores: ``(N,)``, ``(N, 1)``, ``(N, C)`` or ``(B, T, C)`` logits.
        targets: ``(N,)``, ``(N, C)`` or ``(B, T)``.
        mask: boolean, shaped like the leading axes of ``targets``; False entries are left out.

    Raises:
        MetricgradError: where the shapes fit none of these.
    """
    stack, targets = _canonical_stack(scores[None], targets, mask)
    return stack[0], targets


def _canonical_stack(stack: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    item = stack.shape[1:]
    if targets.ndim == 0 or stack.ndim == 1:
        raise MetricgradError(
            f"scores of shape {tuple(item)} and targets of shape {tuple(targets.shape)} have no batch axis; "
            "pass at least one row, for example scores[None] and targets[None]"
        )
    if len(item) == targets.ndim + 1 and item[-1] == 1:
        stack = stack.squeeze(-1)
        item = stack.shape[1:]
    if tuple(item) != tuple(targets.shape) and tuple(item[:-1]) != tuple(targets.shape):
        raise MetricgradError(
            f"scores have shape {tuple(item)} and targets {tuple(targets.shape)}; expected equal shapes (binary, "
            "multilabel, regression) or scores with one more, last axis for the classes"
        )
    if mask is not None:
        if mask.dtype != torch.bool or tuple(mask.shape) != tuple(targets.shape[: mask.ndim]):
            raise MetricgradError(
                f"mask has dtype {mask.dtype} and shape {tuple(mask.shape)}; expected a boolean tensor shaped like the "
                f"leading axes of targets {tuple(targets.shape)}"
            )
        lead = stack.shape[0]
        stack = stack.reshape(lead, mask.numel(), *stack.shape[1 + mask.ndim :])[:, mask.reshape(-1)]
        targets = targets[mask]
    elif stack.ndim == targets.ndim + 2 and targets.ndim > 1:
        stack = stack.reshape(stack.shape[0], targets.numel(), stack.shape[-1])
        targets = targets.reshape(-1)
    return stack, targets


def decode(scores: Tensor, elementwise: bool, reads: Reads) -> Tensor:
    """Turn logits into what a metric reads; ``elementwise`` says whether scores and targets share their shape."""
    if reads == "scores":
        return scores
    if reads == "probabilities":
        return scores.sigmoid() if elementwise else scores.softmax(-1)
    return (scores > 0).long() if elementwise else scores.argmax(-1)


class Metric:
    """A metric of raw scores: the true, hard value, and its direction.

    Built by :func:`as_metric`; not meant to be constructed by hand.

    Attributes:
        name: the name in tables and error messages.
        higher_is_better: the direction.
        reads: what the callable sees of the scores.
        structure: what is known of it without probing, or None for a callable nobody described.
        spec: the string that builds it again, or None for a foreign callable.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        higher_is_better: bool,
        reads: Reads = "scores",
        inputs: Inputs = "torch",
        order: Order = "scores_first",
        batched: bool = False,
        structure: Structure | None = None,
        context: frozenset[str] = frozenset(),
        fixed: Mapping[str, Any] | None = None,
        spec: str | None = None,
    ) -> None:
        self._fn = fn
        self.name = name
        self.higher_is_better = higher_is_better
        self.reads: Reads = reads
        self._inputs: Inputs = inputs
        self._order: Order = order
        self.batched = batched
        self.structure = structure
        self.context = context
        self.fixed = dict(fixed or {})
        self.spec = spec

    def __repr__(self) -> str:
        arrow = "higher" if self.higher_is_better else "lower"
        return f"Metric({self.name}, reads={self.reads}, {arrow} is better)"

    @property
    def worst(self) -> float:
        """The value no metric falls below in its direction: for ordering, not for display."""
        return -math.inf if self.higher_is_better else math.inf

    def is_better(self, a: float, b: float) -> bool:
        """Whether value ``a`` is strictly better than ``b``; a NaN is never better."""
        return a > b if self.higher_is_better else a < b

    def __call__(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The hard value on one batch of logits, as a 0-d float tensor (NaN where it is undefined)."""
        return self.over(scores[None], targets, **context)[0]

    def over(self, stack: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The hard value of each of T score sets for the same targets.

        Args:
            stack: ``(T, ...)`` logits.
            targets: the targets of one batch, shared by all T.
            context: ``groups``, ``mask``, ``sample_weight`` or ``head_sizes``, where the metric takes them.

        Returns:
            ``(T,)`` float values. One call for a built-in metric, T calls for a foreign one.
        """
        kwargs = self._check_context(context)
        with torch.no_grad():
            stack, targets = _canonical_stack(stack.detach(), targets, context.get("mask"))
            read = decode(stack, stack.ndim - 1 == targets.ndim, self.reads)
            dtype = stack.dtype if stack.dtype == torch.float64 else torch.float32
            if self.batched:
                return self._fn(read, targets, **self.fixed, **kwargs).to(dtype)
            values = [self._single(row, targets, kwargs) for row in read]
            return torch.tensor(values, dtype=dtype, device=stack.device)

    def differentiable(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The value with its autograd graph, for a torch metric that is differentiable in the scores as it is."""
        kwargs = self._check_context(context)
        scores, targets = canonical(scores, targets, context.get("mask"))
        read = decode(scores, scores.ndim == targets.ndim, self.reads)
        if self.batched:
            return self._fn(read[None], targets, **self.fixed, **kwargs)[0]
        pair = (read, targets) if self._order == "scores_first" else (targets, read)
        return self._fn(*pair, **self.fixed, **kwargs)

    def _single(self, read: Tensor, targets: Tensor, kwargs: dict[str, Any]) -> float:
        if self._inputs == "numpy":
            args = [np.asarray(x.detach().cpu()) for x in (read, targets)]
            kwargs = {k: np.asarray(v.cpu()) for k, v in kwargs.items()}
        else:
            args = [read, targets]
        if self._order == "targets_first":
            args.reverse()
        try:
            return float(self._fn(*args, **self.fixed, **kwargs))
        except MetricgradError:
            raise
        except Exception as error:
            raise MetricgradError(
                f"metric {self.name!r} raised {type(error).__name__}: {error}. It was called with "
                f"{self.reads} of shape {tuple(read.shape)} and targets of shape {tuple(targets.shape)}, "
                f"order={self._order!r}, inputs={self._inputs!r}; if it expects something else, say so in as_metric(...)"
            ) from error

    def _check_context(self, context: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        given = {k: v for k, v in context.items() if v is not None}
        for name in given:
            if name not in _CONTEXT:
                raise MetricgradError(f"unknown context {name!r}; expected one of {', '.join(_CONTEXT)}")
        mask = given.pop("mask", None)
        for name, value in list(given.items()):
            if name not in self.context:
                raise MetricgradError(
                    f"metric {self.name!r} takes no {name!r}; leave it out, or bring a metric whose signature names it"
                )
            if mask is not None and value.shape[: mask.ndim] == mask.shape:
                given[name] = value[mask]
        return given


def as_metric(
    metric: str | Metric | Callable[..., Any],
    *,
    higher_is_better: bool | None = None,
    reads: Reads | None = None,
    inputs: Inputs | None = None,
    order: Order | None = None,
    name: str | None = None,
    **fixed: Any,
) -> Metric:
    """Make a :class:`Metric` of a name, a torchmetrics or scikit-learn function, or any callable.

    Args:
        metric: a built-in name (``"f1"``, ``"recall_at_k:k=5"``), ``"pkg.mod:fn"``, or a callable.
        higher_is_better: the direction; known for built-in, torchmetrics and scikit-learn metrics, required otherwise.
        reads: what the callable sees of the raw scores: ``"scores"``, ``"probabilities"`` or ``"labels"``.
        inputs: ``"torch"`` (default) or ``"numpy"``.
        order: ``"scores_first"`` (default) or ``"targets_first"``.
        name: a name for tables; by default the callable's own.
        fixed: keyword arguments passed to the callable at every call.

    Raises:
        MetricgradError: for an unknown name, or where something that cannot be known is not said.

    Example:
        >>> import torch, metricgrad as mg
        >>> metric = mg.as_metric("accuracy")
        >>> float(metric(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 0])))
        0.5
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        from metricgrad.metrics.registry import built_in, is_built_in

        head, _, tail = metric.partition(":")
        if is_built_in(head):
            return built_in(metric, fixed)
        if not tail or "=" in tail:
            return built_in(metric, fixed)  # raises, naming what is close
        fn = _import(metric, head, tail)
        return as_metric(
            fn, higher_is_better=higher_is_better, reads=reads, inputs=inputs, order=order, name=name or tail, **fixed
        )
    positional: dict[str, Any] = {}
    while isinstance(metric, functools.partial):
        if metric.args:
            raise MetricgradError("a partial with positional arguments hides the scores; pass keyword arguments only")
        positional = {**metric.keywords, **positional}
        metric = metric.func
    fixed = {**positional, **fixed}
    if not callable(metric):
        raise MetricgradError(f"metric must be a name or a callable, got {type(metric).__name__}")
    from metricgrad.metrics.adapters import describe

    known = describe(metric, fixed)
    said = {"higher_is_better": higher_is_better, "reads": reads, "inputs": inputs, "order": order, "name": name}
    options = {**known, **{k: v for k, v in said.items() if v is not None}}
    if options.get("higher_is_better") is None:
        raise MetricgradError(
            f"higher_is_better is not known for {getattr(metric, '__name__', metric)!r}; "
            "pass as_metric(fn, higher_is_better=True) or False: a direction is asked for, never guessed"
        )
    fn = options.pop("fn", metric)
    options.setdefault("name", getattr(metric, "__name__", type(metric).__name__))
    options.setdefault("context", _context_of(fn) - fixed.keys())
    if any(key in options and options[key] != known.get(key) for key in ("reads",)) and "structure" in options:
        options.pop("structure")
    return Metric(fn, fixed=options.pop("fixed", fixed), **options)


def _context_of(fn: Callable[..., Any]) -> frozenset[str]:
    try:
        names = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(name for name in _CONTEXT if name in names and name != "mask")


def _import(spec: str, module: str, attribute: str) -> Callable[..., Any]:
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MetricgradError(
            f"metric {spec!r}: {error}. Write it as package.module:function, importable from where you stand"
        ) from error
