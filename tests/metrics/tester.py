"""The one tester: draw a batch, degenerate ones among them, and compare a metric with its oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import metricgrad as mg

Array = np.ndarray
Oracle = Callable[..., float]


@dataclass
class Batch:
    """Three score sets of the same targets, row weights, and a query number for each row."""

    stack: torch.Tensor
    targets: torch.Tensor
    weight: torch.Tensor
    groups: torch.Tensor


@st.composite
def batches(draw: st.DrawFn, kind: str) -> Batch:
    """Of one row and up, with ties, one class or no positive among them.

    Args:
        draw: hypothesis' own.
        kind: ``binary``, ``multilabel``, ``multiclass``, ``graded``, ``real`` or ``lists``.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, c = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    rate = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    shape = (n,) if kind in ("binary", "real", "graded") else (n, c)
    scores = rng.normal(size=(3, *shape)) * draw(st.sampled_from([1.0, 8.0]))
    if draw(st.booleans()):
        scores = np.round(scores)
    if draw(st.booleans()):
        scores[0] = 0.0
    if kind == "multiclass":
        targets = rng.integers(0, max(1, round(c * (0.4 + rate / 2))), n)
    elif kind in ("graded", "lists"):
        targets = rng.integers(0, 4, shape) * (rng.random(shape) < rate)
    elif kind == "real":
        targets = np.round(rng.normal(size=shape), draw(st.sampled_from([0, 3])))
    else:
        targets = (rng.random(shape) < rate).astype(np.int64)
    return Batch(
        torch.tensor(scores),
        torch.tensor(targets),
        torch.tensor(rng.random(n) + 0.1),
        torch.tensor(rng.integers(0, 4, n)),
    )


def agrees(spec: str | mg.Metric, oracle: Oracle, batch: Batch, **context: torch.Tensor) -> None:
    """Assert that every one of the T values is the oracle's, NaN where it says NaN.

    The oracle is called with NumPy targets, raw scores, and the context by keyword.
    """
    metric = mg.as_metric(spec)
    found = metric.over(batch.stack, batch.targets, **context)
    assert found.shape == (len(batch.stack),)
    named = {k: v.numpy() for k, v in context.items()}
    expected = [quietly(oracle, batch.targets.numpy(), row.numpy(), **named) for row in batch.stack]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6, err_msg=str(spec))


def quietly(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    """Call without the warnings that oracles give on degenerate input."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(fn(*args, **kwargs))


def labels(scores: Array, targets: Array) -> Array:
    """The predicted labels of raw scores."""
    return (scores > 0).astype(np.int64) if scores.shape == targets.shape else scores.argmax(-1)


def softmax(scores: Array) -> Array:
    """Softmax over the last axis, in float64."""
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(scores: Array) -> Array:
    """Sigmoid, in float64."""
    return 1 / (1 + np.exp(-scores))
