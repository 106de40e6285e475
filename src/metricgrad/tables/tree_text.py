"""LightGBM's own text format, read as numbers that are checked one by one: what a file says is never handed to C++."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metricgrad.errors import MetricgradError

_MOST_TREES = 1_000_000
_MOST_LEAVES = 1 << 20
_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 12
_WORD = 32


@dataclass(frozen=True)
class Tree:
    """One tree; node 0 is its root, and a child below 0 is leaf ``-1 - child``.

    Attributes:
        feature: ``(n,)`` column each node looks at.
        threshold: ``(n,)`` what a number may be at most to go left; all do at infinity, where a node asks only whether
            there is one.
        missing: ``(n,)`` how a missing number is read: 0 as zero, 1 with zeros by default, 2 by default.
        default_left: ``(n,)`` booleans, where the default goes.
        left: ``(n,)`` children.
        right: ``(n,)`` children.
        levels: for each node the codes that go left, None where it looks at a number.
        leaves: ``(n + 1,)`` values.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing: np.ndarray
    default_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    levels: tuple[tuple[int, ...] | None, ...]
    leaves: np.ndarray

    @property
    def depth(self) -> int:
        """Decisions from the root to the deepest leaf."""
        depths = np.zeros(len(self.feature) + 1, np.int64)
        for node in range(len(self.feature)):  # a child comes after its parent
            for child in (self.left[node], self.right[node]):
                if child >= 0:
                    depths[child] = depths[node] + 1
        return int(depths[: len(self.feature)].max() + 1) if len(self.feature) else 0


def parse_trees(text: str, *, columns: int, classes: int) -> list[Tree]:
    """The trees of a model, in order.

    Args:
        text: as LightGBM's ``Booster.model_to_string`` writes it.
        columns: how many features there are.
        classes: trees of one round, 1 but for several classes.

    Raises:
        MetricgradError: for what is no such text, or contradicts itself or the arguments.
    """
    head, *rest = re.split(r"^Tree=\d+$", text, flags=re.MULTILINE)
    said = dict(_lines(head))
    if not head.startswith("tree\n") or said.get("version") not in ("v3", "v4"):
        raise MetricgradError("it does not begin as a model of LightGBM does")
    per_round = _whole(said, "num_tree_per_iteration")
    if per_round != classes or _whole(said, "max_feature_idx") != columns - 1:
        raise MetricgradError(f"it is not of {columns} columns and {classes} trees a round")
    if not rest or len(rest) % classes or len(rest) > _MOST_TREES or "end of trees" not in rest[-1]:
        raise MetricgradError(f"it has {len(rest)} trees, which are no whole rounds, or is cut")
    rest[-1] = rest[-1].partition("end of trees")[0]
    return [_tree(dict(_lines(part)), number, columns) for number, part in enumerate(rest)]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name, value


def _tree(said: dict[str, str], number: int, columns: int) -> Tree:
    try:
        return _checked(said, columns)
    except (MetricgradError, KeyError, ValueError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise MetricgradError(f"tree {number}: {reason}") from error


def _checked(said: dict[str, str], columns: int) -> Tree:
    count = _whole(said, "num_leaves")
    if not 1 <= count <= _MOST_LEAVES or said.get("is_linear", "0") != "0":
        raise MetricgradError(f"it has {count} leaves, or they are no constants")
    nodes = count - 1
    leaves = _numbers(said, "leaf_value", count)
    if not nodes:
        none = np.zeros(0, np.int64)
        return Tree(none, np.zeros(0), none, np.zeros(0, bool), none, none, (), leaves)
    feature, kinds = _integers(said, "split_feature", nodes), _integers(said, "decision_type", nodes)
    threshold = _numbers(said, "threshold", nodes, infinite=True)
    left, right = _integers(said, "left_child", nodes), _integers(said, "right_child", nodes)
    _check_shape(left, right, nodes)
    if feature.min() < 0 or feature.max() >= columns or kinds.min() < 0 or kinds.max() > 15:
        raise MetricgradError("it looks at columns that are not there, or decides in an unknown way")
    missing = (kinds & _MISSING) >> 2
    if missing.max() > 2:
        raise MetricgradError("it reads missing numbers in an unknown way")
    categorical = (kinds & _CATEGORICAL).astype(bool)
    levels = _levels(said, threshold, categorical) if categorical.any() else (None,) * nodes
    return Tree(feature, threshold, missing, (kinds & _DEFAULT_LEFT) > 0, left, right, levels, leaves)


def _check_shape(left: np.ndarray, right: np.ndarray, nodes: int) -> None:
    """Every node but the root and every leaf is the child of one node, and stands after it."""
    both = np.concatenate([left, right])
    parents = np.tile(np.arange(nodes), 2)
    if sorted(both.tolist()) != [*range(-nodes - 1, 0), *range(1, nodes)] or bool((parents >= both)[both >= 0].any()):
        raise MetricgradError("its nodes and leaves make no tree")


def _levels(said: dict[str, str], threshold: np.ndarray, categorical: np.ndarray) -> tuple[tuple[int, ...] | None, ...]:
    count = _whole(said, "num_cat")
    bounds = _integers(said, "cat_boundaries", count + 1)
    words = _integers(said, "cat_threshold", int(bounds[-1]) if len(bounds) else 0)
    if bounds[0] != 0 or bool((np.diff(bounds) < 0).any()) or words.min(initial=0) < 0 or words.max(initial=0) >= 2**32:
        raise MetricgradError("its categories are no sets of bits")
    places = threshold[categorical]
    whole = bool(np.isfinite(places).all()) and not bool((places % 1 != 0).any())
    if not whole or places.min() < 0 or places.max() >= count:
        raise MetricgradError("it decides by categories that are not there")
    sets = [
        tuple(
            _WORD * word + bit
            for word, bits in enumerate(words[bounds[k] : bounds[k + 1]].tolist())
            for bit in range(_WORD)
            if bits >> bit & 1
        )
        for k in range(count)
    ]
    return tuple(sets[int(place)] if chosen else None for place, chosen in zip(threshold, categorical, strict=True))


def _whole(said: dict[str, str], name: str) -> int:
    if not re.fullmatch(r"\d{1,9}", said.get(name, "")):
        raise MetricgradError(f"{name} is {said.get(name, '')[:40]!r}; expected a whole number")
    return int(said[name])


def _integers(said: dict[str, str], name: str, count: int) -> np.ndarray:
    parts = said[name].split()
    if len(parts) != count or not all(re.fullmatch(r"-?\d{1,10}", part) for part in parts):
        raise MetricgradError(f"{name} is not {count} whole numbers")
    return np.array([int(part) for part in parts], np.int64)


def _numbers(said: dict[str, str], name: str, count: int, *, infinite: bool = False) -> np.ndarray:
    parts = said[name].split()
    values = np.array([float(part) for part in parts]) if len(parts) == count else np.zeros(0)
    if len(values) != count or bool(np.isnan(values).any() if infinite else ~np.isfinite(values).all()):
        raise MetricgradError(f"{name} is not {count} {'' if infinite else 'finite '}numbers")
    return values
