"""Whether what was read from JSON is what a function's type hints ask for."""

from __future__ import annotations

import collections.abc
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from metricgrad.errors import MetricgradError

_LARGEST = 2**63
_DEEPEST = 32


def parse(text: str | bytes) -> Any:
    """JSON without the same key twice, nested no deeper than 32 levels.

    Raises:
        MetricgradError: in words that go on after "... is no JSON of ours: ".
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise MetricgradError("it is nested too deeply") from error
    except ValueError as error:  # also text that is no UTF-8, numbers of thousands of digits, and the same key twice
        raise MetricgradError(str(error).splitlines()[0] if str(error) else "it is empty") from error
    if _depth(value) > _DEEPEST:
        raise MetricgradError(f"it is nested deeper than {_DEEPEST} levels")
    return value


def checked_arguments(function: Callable[..., Any], given: Any, what: str) -> dict[str, Any]:
    """Keyword arguments that came from a file, against the signature and the type hints of what they are for.

    Args:
        function: a class, a function or a bound method; parameters without a hint take anything.
        given: the arguments.
        what: names them in messages.

    Raises:
        MetricgradError: for what is no dictionary, an unknown or missing argument, or one of another type.
    """
    if not isinstance(given, dict):
        raise MetricgradError(f"{what} is {_shown(given)}; expected options by name")
    called = function.__init__ if isinstance(function, type) else function
    hints = typing.get_type_hints(called)
    known = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    if unknown := [name for name in given if name not in known]:
        raise MetricgradError(f"{what} has no option {_shown(unknown[0])}; there are {', '.join(known) or 'none'}")
    if missing := [name for name, p in known.items() if p.default is p.empty and name not in given]:
        raise MetricgradError(f"{what} lacks the option {missing[0]!r}")
    for name, value in given.items():
        if not fits(value, hints.get(name, Any)):
            raise MetricgradError(f"{what}: {name} is {_shown(value)}; expected {_words(hints[name])}")
    return given


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated type, as JSON has it: lists for sequences, whole numbers also for floats.

    Numbers must be finite, and whole ones fit into 64 bits.

    Example:
        >>> fits([1, 2.5], list[float]), fits(True, int), fits(float("nan"), float | None)
        (True, False, False)
    """
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return (
            isinstance(value, dict)
            and hint.__required_keys__ <= value.keys() <= hints.keys()
            and all(fits(each, hints[name]) for name, each in value.items())
        )
    if origin is collections.abc.Callable:
        return callable(value)
    kind: Any = origin or hint
    if kind is int:
        return type(value) is int and -_LARGEST <= value < _LARGEST
    if kind is float:
        return fits(value, int) or (type(value) is float and math.isfinite(value))
    if kind in (list, tuple, collections.abc.Sequence):
        each = inner[0] if inner else Any
        return isinstance(value, list | tuple) and all(fits(one, each) for one in value)
    if kind in (dict, collections.abc.Mapping):
        keys, values = inner or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, keys) and fits(v, values) for k, v in value.items())
    return isinstance(value, kind)


def unequal(one: Any, other: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """Where two descriptions in JSON differ, by path, and both values there; what one does not mention is not told.

    Example:
        >>> unequal({"metric": "f1", "every": 5}, {"metric": "mcc", "lr": 0.1})
        [('metric', 'f1', 'mcc')]
    """
    if isinstance(one, dict) and isinstance(other, dict):
        named = ((f"{where}.{name}".lstrip("."), name) for name in one if name in other)
        return [found for path, name in named for found in unequal(one[name], other[name], path)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for a, b in zip(one, other, strict=True) for found in unequal(a, b, where)]
    return [] if one == other else [(where, one, other)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key {next(n for n in names if names.count(n) > 1)[:40]!r} twice")
    return found


def _depth(value: Any) -> int:
    """How deeply lists and dictionaries are nested; level by level, so that no depth is too much."""
    level, depth = [value], 0
    while level:
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("collections.abc.", "")
