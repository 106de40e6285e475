"""Boosted trees as a module of raw scores, so that whatever a network serves for, they serve for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.tables.preprocessing import Layout
from metricgrad.tables.tree_text import Tree, parse_trees

_CODES = 1 << 12


class BoostedTrees(nn.Module):
    """The sum of the trees that LightGBM grew, read from its own text; it needs no LightGBM to answer.

    Not differentiable in its inputs, and nothing of it is trained. The leaves are those that LightGBM reaches, and
    their values are summed in float64 in the order of the trees.

    Args:
        text: of the model, see :func:`metricgrad.tables.tree_text.parse_trees`.
        layout: of the inputs.
        outputs: scores of a row, shaped ``(N, outputs)``; None for one, shaped ``(N,)``.

    Raises:
        MetricgradError: for a text that is no such model.

    Cost: per row, as many steps for each tree as the deepest has decisions.
    """

    feature: Tensor
    threshold: Tensor
    missing: Tensor
    default_left: Tensor
    left: Tensor
    right: Tensor
    level_set: Tensor
    levels: Tensor
    leaves: Tensor
    roots: Tensor

    def __init__(self, text: str, layout: Layout, outputs: int | None) -> None:
        super().__init__()
        self.text, self.layout, self.outputs = text, layout, outputs
        trees = parse_trees(text, columns=layout.numbers + len(layout.levels), classes=outputs or 1)
        self.rounds = len(trees) // (outputs or 1)
        self._depth = max(tree.depth for tree in trees)
        nodes = np.cumsum([0, *(len(tree.feature) for tree in trees)])
        leaves = np.cumsum([0, *(len(tree.leaves) for tree in trees)])
        for name in ("feature", "threshold", "missing", "default_left"):
            self._keep(name, np.concatenate([getattr(tree, name) for tree in trees]))
        for name in ("left", "right"):
            moved = [_moved(getattr(t, name), n, m) for t, n, m in zip(trees, nodes, leaves, strict=False)]
            self._keep(name, np.concatenate(moved))
        self._keep("leaves", np.concatenate([tree.leaves for tree in trees]))
        roots = [n if len(tree.feature) else -1 - m for tree, n, m in zip(trees, nodes, leaves, strict=False)]
        self._keep("roots", np.array(roots, np.int64))
        level_set, levels = _level_sets(trees)
        self._keep("level_set", level_set)
        self._keep("levels", levels)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Raw scores in float32.

        Args:
            inputs: ``(N, layout.width)``.
        """
        x = restored(inputs, self.layout).double()
        at = self.roots.expand(len(x), -1)
        for _ in range(self._depth):
            node = at.clamp(min=0)
            value = x.gather(1, self.feature[node]) if len(self.feature) else at
            goes_left = torch.where(self.level_set[node] >= 0, self._in_levels(node, value), self._below(node, value))
            at = torch.where(at >= 0, torch.where(goes_left, self.left[node], self.right[node]), at)
        values = self.leaves[-1 - at].view(len(x), self.rounds, self.outputs or 1).cumsum(1)[:, -1].float()
        return values.squeeze(-1) if self.outputs is None else values

    def _below(self, node: Tensor, value: Tensor) -> Tensor:
        missing, absent = self.missing[node], value.isnan()
        number = torch.where(absent & (missing != 2), 0.0, value)
        by_default = ((missing == 2) & absent) | ((missing == 1) & (number.abs() <= 1e-35))
        return torch.where(by_default, self.default_left[node], number <= self.threshold[node])

    def _in_levels(self, node: Tensor, value: Tensor) -> Tensor:
        size = self.levels.shape[1]
        known = (value >= 0) & (value < size)
        code = torch.where(known, value, 0.0).long()
        return known & self.levels[self.level_set[node].clamp(min=0), code]

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)  # the text says it all


def restored(inputs: Tensor, layout: Layout) -> Tensor:
    """``(N, numbers + codes)``: NaN where a flag says that a number is missing, and no flags."""
    numbers = inputs[:, : layout.numbers].clone()
    flags = inputs[:, layout.numbers : layout.numbers + len(layout.gaps)]
    for flag, place in enumerate(layout.gaps):
        numbers[:, place] = torch.where(flags[:, flag] > 0, torch.nan, numbers[:, place])
    return torch.cat([numbers, inputs[:, layout.numbers + len(layout.gaps) :]], 1)


def _moved(children: np.ndarray, node: int, leaf: int) -> np.ndarray:
    """Children of a tree whose first node and leaf have these numbers among all trees'."""
    return np.where(children >= 0, children + node, children - leaf)


def _level_sets(trees: Sequence[Tree]) -> tuple[np.ndarray, np.ndarray]:
    """For each node the row of its level set, -1 where it has none; and the sets, a column for each code."""
    sets = [levels for tree in trees for levels in tree.levels]
    there = [levels for levels in sets if levels is not None]
    size = 1 + max((max(levels, default=0) for levels in there), default=0)
    if size > _CODES:
        raise MetricgradError(f"it has categories of {size} codes, and no table has more than {_CODES}")
    rows = np.full(len(sets), -1, np.int64)
    rows[[levels is not None for levels in sets]] = np.arange(len(there))
    found = np.zeros((max(1, len(there)), size), bool)
    for row, levels in enumerate(there):
        found[row, list(levels)] = True
    return rows, found
