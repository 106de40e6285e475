"""What we are judged by: any callable becomes ``(scores, targets) -> value`` with a direction and a decoder.

Raw scores are logits, always. A metric says once what it wants to see of them (``reads``), and the decoding is done
here, by shape alone and never by looking at values:

===================  =========================================  ====================================
scores / targets     ``reads="probabilities"``                  ``reads="labels"``
===================  =========================================  ====================================
same shape           sigmoid, element by element                ``scores > 0``
(N, C) / (N,)        softmax over the last axis                 argmax over the last axis
===================  =========================================  ====================================

With ``reads="embeddings"`` the columns of ``(N, D)`` scores are no classes: each row is an embedding, and ``(N,)``
targets are class numbers of any size; see :mod:`metricgrad.metrics.families.neighbours`.

``(N, 1)`` scores lose the last axis, with ``(N,)`` or ``(N, 1)`` targets. Classes may stand on axis 1 as well, as
:func:`torch.nn.functional.cross_entropy` takes them: ``(N, C, H, W)`` with ``(N, H, W)``; see
:mod:`metricgrad.metrics.layouts.class_targets`, also for targets to ignore. What has more axes, a callable of your own
gets as you passed it, decoded by the same table: ``(N, H, W)`` scores and targets of images, ``(N, T, C)`` scores and
``(N, T)`` targets of sentences; see :mod:`metricgrad.metrics.layouts.given`, also for masks. Built-in metrics, and
those of scikit-learn and torchmetrics that are known, pool the entries: ``(B, T, C)`` scores with ``(B, T)`` targets
become ``(B * T, C)`` and ``(B * T,)``, and yes-or-no entries of three axes or more, such as ``(N, H, W)`` masks, one
list (pass labels of tokens as ``(B * T, C)``). Metrics of heat maps, of sentences and of answer spans read batches of
another layout: :mod:`metricgrad.metrics.layouts.layout`. An empty batch, and one with a NaN score, has the value NaN.

What comes along with a batch, ``mask``, ``sample_weight``, ``groups`` and ``head_sizes``, is described in
:mod:`metricgrad.metrics.context`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.adapters.callables import Generators, call_each
from metricgrad.metrics.chunks import in_chunks
from metricgrad.metrics.decoding import canonical, checked_targets, decode, log_odds, narrowed
from metricgrad.metrics.fast_paths import FastPath
from metricgrad.metrics.layouts.class_targets import ClassTargets
from metricgrad.metrics.layouts.embeddings import Embeddings
from metricgrad.metrics.layouts.layout import ROWS, Layout
from metricgrad.metrics.probabilities import FEWEST_ROWS, rows_of, warn_of_probabilities, within_unit
from metricgrad.metrics.time_limit import within_limit
from metricgrad.metrics.types import Apart, Inputs, Order, Reads, Structure, TargetKind
from metricgrad.precision import wide
from metricgrad.value_range import ranges_of

#: What a batch says of itself, and what one says that was read already.
_AS_THEY_ARE, _READ = ClassTargets(), ClassTargets(class_dim=-1)


class Metric:
    """A metric of raw scores: the true, hard value, and its direction.

    Built by :func:`as_metric`; not meant to be constructed by hand.

    Attributes:
        name: the name in tables and error messages.
        higher_is_better: the direction.
        reads: what the callable sees of the scores.
        batched: whether one call takes all T score sets of :meth:`over`.
        structure: what is known of it without probing, or None for a callable nobody described.
        context: what it takes: ``groups``, ``sample_weight``, ``head_sizes``; ``mask`` to be handed the mask itself.
        fixed: keyword arguments of every call.
        spec: the string that builds it again, or None for a foreign callable.
        by_order: whether it is handed log-odds in place of probabilities.
        layout: how scores and targets are laid out; see :mod:`metricgrad.metrics.layouts.layout`.
        fast_path: what else it is a function of, or None: see :mod:`metricgrad.metrics.fast_paths`.
        twin: what a foreign metric is presumed to be, or None: see :mod:`metricgrad.metrics.adapters.twins`.
        class_targets: where the classes stand, what is ignored and what is a yes.
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
        by_order: bool = False,
        targets: TargetKind = "real",
        torch_equivalent: Callable[..., Tensor] | None = None,
        layout: Layout = ROWS,
        fast_path: FastPath | None = None,
        twin: FastPath | None = None,
        class_targets: ClassTargets = _AS_THEY_ARE,
    ) -> None:
        """Store what :func:`as_metric` found out.

        Args:
            fn: called with what ``reads`` says and the targets, in ``order``.
            name: see the class, as for ``higher_is_better``, ``reads``, ``batched``, ``structure``, ``context``,
                ``fixed`` and ``spec``.
            inputs: whether ``fn`` takes tensors or NumPy arrays.
            order: the order of scores and targets in the call.
            batched: whether ``fn`` takes ``(T, ...)`` scores.
            by_order: only the order of probabilities matters: ``fn`` gets log-odds in float64, not saturated to ties.
            targets: what a batched ``fn`` or ``torch_equivalent`` can mean as targets; all else is refused.
            torch_equivalent: a batched torch function of the raw scores with the same value, for
                :meth:`differentiable` of a NumPy metric.
            layout: see the class, as for ``fast_path`` and ``class_targets``.
        """
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
        self.by_order = by_order
        self._targets: TargetKind = targets
        self._torch_equivalent = torch_equivalent
        self.layout: Layout = Embeddings(layout) if reads == "embeddings" else layout
        self.fast_path: FastPath | None = fast_path
        self.twin: FastPath | None = twin
        self.class_targets = class_targets if self.layout.of_class_targets else _READ
        # not a property: what a metric averages over stays so when nothing is said of it any more
        self._keeps_apart: Apart | None = None if structure is None else structure.keeps_apart
        self._warned = False

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

    def undescribed(self) -> Metric:
        """A copy without its structure, as if nobody had described it: its refactoring is then found by probing.

        Example:
            >>> import metricgrad as mg
            >>> mg.as_metric("f1").undescribed().structure is None
            True
        """
        return self._copy(structure=None, spec=None, fast_path=None, twin=None)

    def answering(self, fn: Callable[..., Any]) -> Metric:
        """A copy that reads the same and has another function's values; nothing else is known of it."""
        ours = {"batched": True, "_inputs": "torch", "_order": "scores_first", "fast_path": None, "twin": None}
        return self._copy(_fn=fn, fixed={}, **ours)

    def __call__(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The hard value on one batch of logits, as a 0-d float tensor (NaN where it is undefined)."""
        if not isinstance(scores, Tensor) or scores.ndim == 0:
            canonical(scores, targets)  # raises, naming the remedy
        value = self.over(scores[None], targets, **context)[0]
        self.look_at(scores, targets)
        return value

    def over(self, stack: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The hard value of each of T score sets for the same targets.

        Args:
            stack: ``(T, ...)`` logits.
            targets: the targets of one batch, shared by all T.
            context: ``groups``, ``mask``, ``sample_weight`` or ``head_sizes``, where the metric takes them.

        Returns:
            ``(T,)`` values, float64 for float64 scores and where float32 is too narrow, float32 otherwise; NaN for an
            empty batch, and for score sets with a NaN among them. One call for a built-in metric, T calls for a
            foreign one.
        """
        with torch.no_grad():
            stack, targets, kwargs = self.prepared(*self._read_classes(stack, targets, context))
            values = stack.new_full((len(stack),), torch.nan)
            if not targets.numel() or not len(stack) or _masked_out(kwargs):
                return values
            alive = ~stack.isnan().flatten(1).any(1) if ranges_of(stack)[0].has_nan else None
            if alive is not None and not alive.any():
                return values
            stack = stack if alive is None else stack[alive]
            found = narrowed(self._found(stack, targets, kwargs), stack, self.name, ours=self.batched)
            return found if alive is None else values.to(found.dtype).masked_scatter(alive, found)

    @torch.no_grad()
    def of_finite(self, stack: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """As :meth:`over`, of finite score sets of a batch that is not empty, in the dtype that they are found in."""
        stack, targets, kwargs = self.prepared(*self._read_classes(stack, targets, context))
        return stack.new_full((len(stack),), torch.nan) if _masked_out(kwargs) else self._found(stack, targets, kwargs)

    def _found(self, stack: Tensor, targets: Tensor, kwargs: Mapping[str, Tensor]) -> Tensor:
        if self.batched:
            targets = self.checked_targets(stack, targets)
            return in_chunks(lambda part: self._batch(part, targets, kwargs), stack)
        return call_each(
            self._fn, self._read(stack, stack.shape[1:] == targets.shape), targets, kwargs,
            numpy=self._inputs == "numpy", targets_first=self._order == "targets_first", fixed=self.fixed,
            describe=lambda: f"metric {self.name!r} ({self.reads}, {self._order}, {self._inputs} inputs)",
        )  # fmt: skip

    @property
    def takes_logits(self) -> bool:
        """Whether it reads labels, probabilities or the order of class scores, so that scores are logits.

        Not where scores are embeddings, values, maps of key points, or similarities, whose order alone is ranked.
        """
        known = self.structure
        of_classes = known is not None and (known.kind == "top_k" or bool(known.params.get("of_classes")))
        return self.layout.of_decisions and (self.reads in ("labels", "probabilities") or of_classes)

    def look_at(self, scores: Tensor, targets: Tensor, *, stacklevel: int = 2) -> None:
        """Warn, once for each metric, of 50 rows or more that look like probabilities where it takes logits."""
        few = self._warned or not self.takes_logits or rows_of(scores, targets) < FEWEST_ROWS
        if not few and within_unit(scores.detach()):
            self._warned = True
            warn_of_probabilities(f"metric {self.name!r}", stacklevel=stacklevel + 1)

    def of_logits(self) -> Metric:
        """The same of scores that are known to be logits, wherever they lie: :meth:`look_at` says nothing of them."""
        return self._copy(_warned=True)

    def of_labels(self, labels: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """``(T,)`` values of ``(T, R)`` predicted labels; ``weight`` ``(R,)`` says how many rows each stands for.

        Only of a metric whose fast path is :class:`metricgrad.metrics.of_labels.OfLabels`.
        """
        return in_chunks(lambda part: self._fn(part, targets, sample_weight=weight, **self.fixed), labels)

    def differentiable(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The value with its autograd graph, for a torch metric that is differentiable in the scores as it is.

        Raises:
            MetricgradError: for a metric that takes NumPy arrays.
        """
        found = self.with_graph(scores, targets, **context)
        computed = self.batched or self._torch_equivalent is not None
        return narrowed(found, scores, self.name, ours=self.batched) if computed else found

    def with_graph(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """As :meth:`differentiable`, in the dtype that it is found in."""
        if not isinstance(scores, Tensor) or scores.ndim == 0:
            canonical(scores, targets)  # raises, naming the remedy
        stack, targets, kwargs = self.prepared(*self._read_classes(scores[None], targets, context))
        if not targets.numel() or _masked_out(kwargs):
            return stack.sum() * torch.nan
        if self._torch_equivalent is not None:
            targets = self.checked_targets(stack, targets)
            return self._torch_equivalent(stack, targets, **kwargs)[0]
        if self.batched:
            return self._batch(stack, self.checked_targets(stack, targets), kwargs)[0]
        if self._inputs == "numpy":
            raise MetricgradError(f"metric {self.name!r} takes NumPy arrays, so it has no autograd graph")
        read, targets = self._read(stack, stack.shape[1:] == targets.shape)[0].clone(), targets.clone()
        pair = (read, targets) if self._order == "scores_first" else (targets, read)
        generators = Generators(read.device)
        try:
            return within_limit(lambda: self._fn(*pair, **self.fixed, **kwargs))
        finally:
            generators.restore()

    def decoded(self) -> Metric:
        """The same metric of what it reads of the scores, in place of the scores; where :attr:`by_order`."""
        return self._copy(reads="scores", by_order=False, spec=None, fast_path=None, twin=None)

    def of_read_batches(self) -> Metric:
        """The same of batches that were read: classes last, what is ignored left out, yes and no as 1 and 0.

        What holds a metric and is handed such batches keeps this one; :class:`metricgrad.Loss` reads for its parts.
        """
        return self if self.class_targets in (_AS_THEY_ARE, _READ) else self._copy(class_targets=_READ)

    def _read_classes(
        self, stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor | None]]:
        if not self.layout.of_class_targets:
            return stack, targets, dict(context)
        return self.class_targets.read(stack, targets, context, stacked=1)

    def _copy(self, **changes: Any) -> Metric:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def _read(self, stack: Tensor, elementwise: bool) -> Tensor:
        return wide(log_odds(stack, elementwise)) if self.by_order else decode(stack, elementwise, self.reads)

    def _batch(self, stack: Tensor, targets: Tensor, kwargs: Mapping[str, Tensor]) -> Tensor:
        return self._fn(self._read(stack, stack.shape[1:] == targets.shape), targets, **self.fixed, **kwargs)

    def checked_targets(self, stack: Tensor, targets: Tensor) -> Tensor:
        """Targets as the metric reads them beside ``(T, ...)`` scores; raises for those that it cannot mean."""
        of_classes = stack.ndim - 1 > targets.ndim
        return checked_targets(targets, self._targets, stack.shape[-1] if of_classes else None, self.name)

    def prepared(
        self, stack: Tensor, targets: Tensor, context: Mapping[str, Tensor | None]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Score sets, targets and context of a batch that was read, in the shapes of the metric's layout."""
        return self.layout.prepare(
            stack, targets, context, takes=self.context, keeps_apart=self._keeps_apart, name=self.name
        )


def _masked_out(context: Mapping[str, Tensor]) -> bool:
    """Whether a mask that the metric takes leaves nothing."""
    return "mask" in context and not ranges_of(context["mask"])[0].high > 0
