"""Probabilities where logits are meant: seen by their range, said once, never converted."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from metricgrad.outside_graphs import transformed

FEWEST_ROWS = 50
"""Fewer rows of logits may all happen to lie from 0 to 1."""


def rows_of(scores: Tensor, targets: Tensor) -> int:
    """How many rows there are: scores of classes, or single scores shaped like their targets."""
    return targets.numel() if scores.ndim > targets.ndim else scores.shape[:1].numel()


def within_unit(scores: Tensor) -> bool:
    """Whether all lie from 0 to 1, and not all are 0 or 1, as labels would be; False where nobody can look."""
    if transformed(scores):
        return False
    inside = (scores >= 0) & (scores <= 1)
    between = (scores > 0) & (scores < 1)
    return bool(inside.all() & between.any())


_MOVED = ("Squeeze", "Unsqueeze", "View", "UnsafeView", "Select", "Slice", "Transpose", "Permute", "T", "ToCopy")
_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution")


def of_linear_layer(scores: Tensor) -> bool:
    """Whether autograd says that they come straight from a linear layer: logits, wherever they lie.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(3, 1)
        >>> of_linear_layer(layer(torch.ones(2, 3)).squeeze(-1)), of_linear_layer(layer(torch.ones(2, 3)).sigmoid())
        (True, False)
    """
    node: Any = scores.grad_fn
    while node is not None and _operation(node) in _MOVED:
        node = node.next_functions[0][0]
    return node is not None and _operation(node) in _LINEAR


def _operation(node: Any) -> str:
    return node.name().partition("Backward")[0]


def warn_of_probabilities(reader: str, *, stacklevel: int = 2) -> None:
    """Say that scores look like probabilities, and what to pass."""
    warnings.warn(
        f"all scores lie from 0 to 1, as probabilities do, and {reader} takes them as logits: 0.5 is then a yes, and a "
        "softmax of a softmax is flat. Pass what the model gives before its sigmoid or softmax, or turn them round: "
        "torch.logit(p), or p.log() for classes; nothing was converted",
        stacklevel=stacklevel + 1,
    )
