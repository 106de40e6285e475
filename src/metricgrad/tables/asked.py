"""What a study was told of its table: taken over where a training is not told it, and held against what it is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

#: Options of :func:`metricgrad.tables.task.task_of_table` that say what is what in a table.
NAMES = ("target", "positive", "classes", "group", "weight", "split", "time", "drop")
#: Of which a table has one at most, or which say the same.
_EITHER = {"positive": "classes", "classes": "positive", "split": "time", "time": "split"}
_SHOWN = 5


def asked(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Options as plain data, those that were given.

    Example:
        >>> asked({"target": "left", "positive": 1, "drop": (), "time": None})
        {'target': 'left', 'positive': '1'}
    """
    plain = {
        name: [str(one) for one in value] if name in ("classes", "drop") else str(value)
        for name in NAMES
        if (value := given.get(name)) is not None
    }
    return {name: value for name, value in plain.items() if value != []}


def taken_over(known: Mapping[str, Any], given: Mapping[str, Any], there: Collection[str]) -> dict[str, Any]:
    """What a study knows and a training is not told.

    Args:
        known: the study's options.
        given: the training's, None for those that are not given.
        there: columns of the training's table: one that was left out and is not there needs no leaving out.
    """
    other_target = given.get("target") not in (None, known.get("target"))
    found = {
        name: value
        for name, value in known.items()
        if given.get(name) is None
        and given.get(_EITHER.get(name, name)) is None
        and not (other_target and name in ("positive", "classes"))
    }
    if "drop" in found:
        found["drop"] = [name for name in found["drop"] if name in there]
    return {name: value for name, value in found.items() if value != []}


def changes(then: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str] = NAMES) -> list[str]:
    """In words, which options are others.

    Example:
        >>> changes({"target": "left", "drop": ["closed_on"]}, {"target": "left"})
        ['drop was closed_on and is now nothing']
    """
    compared = [(name, then.get(name), now.get(name)) for name in names]
    return [f"{name} was {_said(a)} and is now {_said(b)}" for name, a, b in compared if _plain(a) != _plain(b)]


def column_changes(then: Mapping[str, str], now: Mapping[str, str], passed_over: Collection[str] = ()) -> list[str]:
    """In words, which columns are learned from in one table alone, or as another type.

    Args:
        then: the types of the columns by their names.
        now: the same of the other table.
        passed_over: columns of which something else was said.

    Example:
        >>> column_changes({"age": "number", "city": "category"}, {"age": "category"})
        ["learned from there alone: 'city'", "'age' is number there and category here"]
    """
    alone = {
        "there": [name for name in then if name not in now and name not in passed_over],
        "here": [name for name in now if name not in then and name not in passed_over],
    }
    told = [f"learned from {where} alone: {_listed(names)}" for where, names in alone.items() if names]
    others = [name for name in then if now.get(name, then[name]) != then[name]]
    return told + [f"{name!r} is {then[name]} there and {now[name]} here" for name in others[:_SHOWN]]


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _said(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "nothing" if value is None else str(value)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
