"""``study.json``: a finished study as plain data, from which the page is made at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from metricgrad.comparison.table import Table
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.writing import write_text

NAME = "study.json"
_ANEW = "the same `metricgrad compare` writes it anew"


class About(TypedDict):
    """Plain data, as ``study.json`` has it.

    ``understood`` and ``not_tried`` are lines to read; ``classes`` the texts of the classes in the order of their
    numbers, where they have any; ``data`` a checksum of each part of the first seed.
    """

    command: str
    versions: dict[str, str]
    kind: str
    trials: int
    seeds: int
    epochs: int
    decision: str
    understood: list[str]
    classes: list[str]
    data: dict[str, str]
    not_tried: dict[str, str]


class _Study(TypedDict):
    table: dict[str, Any]
    about: About


def write_study(table: Table, about: About) -> None:
    """Write ``study.json`` into the table's folder."""
    assert table.path is not None
    write_text(table.path / NAME, json.dumps({"table": table.to_dict(), "about": about}, allow_nan=False))


def read_study(folder: str | Path) -> tuple[Table, About]:
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
    if not fits(found, _Study):
        raise MetricgradError(f"{str(path)!r} is no study of this version; {_ANEW}")
    return Table.from_dict(found["table"], Path(folder)), found["about"]
