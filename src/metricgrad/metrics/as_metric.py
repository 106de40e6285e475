"""Whatever a metric is given as, a name, a path or a callable, made a :class:`metricgrad.Metric`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.metrics.adapters.describe import describe
from metricgrad.metrics.adapters.import_path import find_callable, unwrap
from metricgrad.metrics.built_in import built_in, is_built_in, parameters_of, reading_classes
from metricgrad.metrics.layouts.class_targets import ClassDim, ClassTargets
from metricgrad.metrics.layouts.layout import GIVEN, ROWS
from metricgrad.metrics.layouts.rows import context_of
from metricgrad.metrics.metric import Metric
from metricgrad.metrics.types import Inputs, Order, Reads


def as_metric(
    metric: str | Metric | Callable[..., Any],
    *,
    higher_is_better: bool | None = None,
    reads: Reads | None = None,
    inputs: Inputs | None = None,
    order: Order | None = None,
    name: str | None = None,
    class_dim: ClassDim | None = None,
    ignore_index: int | None = None,
    pos_label: int | None = None,
    **fixed: Any,
) -> Metric:
    """Make a :class:`Metric` of a name, a torchmetrics or scikit-learn function, or any callable.

    Args:
        metric: a built-in name (``"f1"``, ``"recall_at_k:k=5"``), ``"pkg.mod:fn"``, ``"path/to/file.py:fn"`` or, with
            any of the arguments below, ``"pkg.mod:fn:higher_is_better=False,beta=2"``, or a callable. One of your own
            gets copies of what it reads and of the targets, in the shapes you pass them: images and sentences are not
            flattened. It also gets those of ``groups``, ``sample_weight`` and ``mask`` that its signature names.
        higher_is_better: the direction; known for built-in, torchmetrics and scikit-learn metrics, required otherwise.
        reads: what the callable sees of the raw scores: ``"scores"``, ``"probabilities"``, ``"labels"`` or, where rows
            are embeddings rather than scores of classes, ``"embeddings"``. For a
            known torchmetrics or scikit-learn metric, another ``reads`` than the known one hands the callable exactly
            that, and drops what else is known of it.
        inputs: ``"torch"`` (default) or ``"numpy"``.
        order: ``"scores_first"`` (default) or ``"targets_first"``.
        name: a name for tables; by default the callable's own.
        class_dim: the axis of the scores that holds the classes: 1, as ``torch.nn.functional.cross_entropy`` takes
            them, or -1. By default the shape of the targets tells it, and where both fit the batch is refused.
        ignore_index: targets of this number are left out, as if a mask said so; the callable is not told of it. One of
            your own with no argument ``mask`` then gets what is left of images or sentences as one list.
        pos_label: the target that is a yes, where targets are yes or no; all others are a no. One score for each target
            is its logit, but for 0, where it is that of 1. A callable with an argument of this name gets it itself.
        fixed: keyword arguments passed to the callable at every call.

    Raises:
        MetricgradError: for an unknown name, or where something that cannot be known is not said.

    Example:
        >>> import torch, metricgrad as mg
        >>> metric = mg.as_metric("accuracy")
        >>> float(metric(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 0])))
        0.5
    """
    said = {"higher_is_better": higher_is_better, "reads": reads, "inputs": inputs, "order": order, "name": name}
    said = {k: v for k, v in said.items() if v is not None}
    reading: dict[str, Any] = {"class_dim": class_dim, "ignore_index": ignore_index, "pos_label": pos_label}
    reading = {k: v for k, v in reading.items() if v is not None}
    if isinstance(metric, str):  # a built-in metric may have a parameter of such a name, as bleu its order
        own = parameters_of(metric.partition(":")[0]) & said.keys()
        fixed = {**fixed, **{name: said.pop(name) for name in own}}
    _check_said(said)
    if isinstance(metric, str) and (is_built_in(metric.partition(":")[0]) or ":" not in metric):
        metric, fixed, reading = built_in(metric, {**fixed, **reading}), {}, {}
    if isinstance(metric, Metric):
        return _adjusted(metric, said, fixed, reading)
    if isinstance(metric, str):
        metric, params = find_callable(metric)
        return as_metric(metric, **{**params, **said, **reading, **fixed})
    if not callable(metric):
        raise MetricgradError(f"metric must be a name or a callable, got {type(metric).__name__}")
    metric, fixed = unwrap(metric, fixed)
    if "pos_label" in reading and _names(metric, "pos_label"):
        fixed = {**fixed, "pos_label": reading.pop("pos_label")}
    options = {**describe(metric, fixed, reads), **said}
    for told in ("pos_label", "ignore_index"):  # by the callable's own options
        if (number := options.pop(told, None)) is not None:
            reading.setdefault(told, number)
    options["class_targets"] = ClassTargets(**reading)
    options.pop("raw", None)
    if options.get("higher_is_better") is None:
        raise MetricgradError(
            f"higher_is_better is not known for {getattr(metric, '__name__', metric)!r}; "
            "pass as_metric(fn, higher_is_better=True) or False, or write pkg.mod:fn:higher_is_better=True: "
            "a direction is asked for, never guessed"
        )
    fn = options.pop("fn", metric)
    fixed = options.pop("fixed", fixed)
    options.setdefault("name", getattr(metric, "__name__", type(metric).__name__))
    options.setdefault("context", context_of(metric))
    options["context"] = options["context"] - fixed.keys()
    # what an ignored target leaves of an image is no image, and a callable that takes no mask cannot be told
    pooled = ignore_index is not None and "mask" not in options["context"]
    options.setdefault("layout", ROWS if pooled else GIVEN)
    return Metric(fn, fixed=fixed, **options)


def stored_metric(spec: object, passed: Any) -> Metric:
    """The built-in metric that a file names, or else the one that the user who loads the file passed.

    Raises:
        MetricgradError: where it names no built-in metric and none was passed. A file names no code to import, be it of
            scikit-learn or torchmetrics: those too are passed again.
    """
    if isinstance(spec, str) and is_built_in(spec.partition(":")[0]):
        return as_metric(spec)
    if passed is not None:
        return as_metric(passed)
    named = "a foreign metric" if spec is None else f"the metric {spec!r:.60}, which is not built in"
    raise MetricgradError(f"was saved with {named}; pass it again: metric=...")


_CHOICES = {
    "reads": ("scores", "probabilities", "labels", "embeddings"),
    "inputs": ("torch", "numpy"),
    "order": ("scores_first", "targets_first"),
}


def _check_said(said: Mapping[str, Any]) -> None:
    if not isinstance(said.get("higher_is_better", True), bool):
        raise MetricgradError(f"higher_is_better={said['higher_is_better']!r}; expected True or False")
    for key, choices in _CHOICES.items():
        if key in said and said[key] not in choices:
            raise MetricgradError(f"{key}={said[key]!r}; expected one of {', '.join(map(repr, choices))}")


def _names(fn: Callable[..., Any], argument: str) -> bool:
    try:
        return argument in signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _adjusted(metric: Metric, said: Mapping[str, Any], fixed: Mapping[str, Any], reading: Mapping[str, Any]) -> Metric:
    """A finished metric under another name, with the direction turned round, or of classes that are read in another
    way; nothing else can change any more."""
    refused = [key for key in said if key not in ("name", "higher_is_better") and said[key] != vars(metric).get(key)]
    if refused or fixed:
        raise MetricgradError(
            f"metric {metric.name!r} is finished: {', '.join([*refused, *fixed])} cannot be set; "
            "pass them where it is made from a name or a callable"
        )
    changes = {k: v for k, v in said.items() if v != vars(metric).get(k)}
    if "higher_is_better" in changes:
        changes["spec"] = None
    metric = metric._copy(**changes) if changes else metric
    return reading_classes(metric, reading) if reading else metric
