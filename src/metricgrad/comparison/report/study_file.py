"""``study.json``: a finished study as plain data, from which the page is made at any time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypedDict, cast, get_type_hints

from metricgrad.comparison.table import Table
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.writing import write_text

NAME = "study.json"
_ANEW = "the same `metricgrad compare` writes it anew"


class About(TypedDict):
    """Plain data, as ``study.json`` has it.

    ``understood`` and ``not_tried`` are lines to read; ``halving`` says whether most tuning trials were shorter than a
    training; ``options`` are what was told of a table and by which metric it is judged, where that can be written down,
    and ``columns`` the types of those it is learned from (both are empty for other data); ``classes`` are the texts of
    the classes in the order of their numbers, where they have any; ``data`` is a checksum of each part of the first
    seed.
    """

    command: str
    versions: dict[str, str]
    kind: str
    trials: int
    halving: bool
    seeds: int
    epochs: int
    decision: str
    understood: list[str]
    options: dict[str, str | list[str]]
    columns: dict[str, str]
    classes: list[str]
    data: dict[str, str]
    not_tried: dict[str, str]


class _Run(TypedDict):
    loss: str
    seed: int
    valid: float | None
    test: float | None
    test_undecided: float | None
    decision: str | None
    seconds: float | None
    params: dict[str, float]


class _Row(TypedDict):
    loss: str
    role: str
    verdict: str
    more_seeds: int | None
    decisions: dict[str, int]
    mean: float | None
    low: float | None
    high: float | None
    mean_undecided: float | None
    low_undecided: float | None
    high_undecided: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    valid: float | None
    seconds: float | None


class _Rung(TypedDict):
    rung: str
    loss: str
    decision: str
    added: float | None
    low: float | None
    high: float | None
    taken: bool
    seconds: float
    runs: int
    why: str


class _Recommendation(TypedDict):
    loss: str
    decision: str
    why: str


class _Table(TypedDict):
    task: str
    metric: str
    higher_is_better: bool
    margin: float
    notes: list[str]


def write_study(table: Table, about: About) -> None:
    """Write ``study.json`` into the table's folder."""
    assert table.path is not None
    write_text(table.path / NAME, json.dumps({"table": table.to_dict(), "about": about}, allow_nan=False))


def read_study(folder: str | os.PathLike[str]) -> tuple[Table, About]:
    """What :func:`write_study` wrote.

    Raises:
        MetricgradError: for a folder without a finished study, or with something else.
    """
    path = Path(folder) / NAME
    try:
        found = parse(path.read_bytes())
    except OSError as error:
        raise MetricgradError(
            f"{str(folder)!r} holds no finished study ({NAME}: {error.strerror}); "
            "`metricgrad compare ... --out DIR` writes one when it ends"
        ) from error
    except MetricgradError as error:
        raise MetricgradError(f"{str(path)!r} is torn: {error}; {_ANEW}") from error
    table, about = (found.get("table"), found.get("about")) if isinstance(found, dict) else (None, None)
    if isinstance(about, dict):
        about = {"options": {}, "columns": {}, **about}  # earlier ones do not say
    if not (isinstance(table, dict) and fits(about, About) and _is_table(table)):
        raise MetricgradError(f"{str(path)!r} is no study of this version; {_ANEW}")
    return Table.from_dict(table, Path(folder)), cast(About, about)


def load_table(folder: str | os.PathLike[str]) -> Table:
    """The table of a finished comparison, from its folder alone: nothing is trained, and neither task nor losses are
    needed.

    Args:
        folder: the ``out=`` of :func:`metricgrad.compare`, or ``--out`` of ``metricgrad compare``.

    Returns:
        What the call returned, :class:`metricgrad.comparison.table.Table`: ``summary``, ``recommendation``,
        ``to_frame()`` for every run.

    Raises:
        MetricgradError: for a folder without a finished comparison, or with something else.
    """
    return read_study(folder)[0]


def _is_table(table: dict[str, Any]) -> bool:
    """Whether there is what the page and the terminal read of a table."""
    parts = {"runs": _Run, "summary": _Row, "ladder": _Rung}
    sound = _has(table, _Table) and _has(table.get("recommendation"), _Recommendation) and all(
        isinstance(table.get(name), list) and all(_has(one, hint) for one in table[name])
        for name, hint in parts.items()
    )  # fmt: skip
    if not sound:
        return False
    names = [row["loss"] for row in table["summary"]]
    baselines = [row for row in table["summary"] if row["verdict"] == "baseline"]
    asked = {table["recommendation"]["loss"], *(run["loss"] for run in table["runs"])}
    return len(baselines) == 1 and asked <= {*names}


def _has(found: Any, hint: type) -> bool:
    """Whether a dictionary has what is asked for; it may have more."""
    names = get_type_hints(hint)
    return isinstance(found, dict) and fits({name: found[name] for name in names if name in found}, hint)
