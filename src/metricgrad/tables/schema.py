"""What a table is: its target, its columns by type, and what was left out, as plain data that is said first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from metricgrad.errors import MetricgradError
from metricgrad.json_types import checked_arguments
from metricgrad.tables.class_labels import LabelType, labels_of
from metricgrad.tables.number_styles import is_style, shown

TargetType = Literal["binary", "multiclass", "regression"]
ColumnType = Literal["number", "category", "boolean", "date"]

_PLURAL: dict[ColumnType, str] = {
    "number": "numeric", "category": "categories", "boolean": "booleans", "date": "dates"
}  # fmt: skip
_SHOWN = 12


@dataclass(frozen=True)
class Column:
    """A column that is learned from.

    Attributes:
        name: in the file.
        type: of its values.
        missing: rows without a value.
        markers: texts that stand for a missing number, beside the usual ones.
        levels: values that have a number of their own, the most frequent first; others count as "other".
        format: of dates that are text, as :func:`pandas.to_datetime` takes it.
        style: of numbers that are no plain ones, see :mod:`metricgrad.tables.number_styles`.
        parts: of dates: ``"days"`` since 1970, ``"month"``, ``"weekday"``, ``"hour"``, those that vary.
    """

    name: str
    type: ColumnType
    missing: int = 0
    markers: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    format: str | None = None
    parts: tuple[str, ...] = ()
    style: str | None = None


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes:
        name: of its column.
        type: of problem.
        classes: their texts in order, the positive one last of two; none for a regression.
        centre: what a regression's target is counted from, so that networks see numbers around 0.
        scale: the unit it is counted in.
        quartiles: of a regression, what a quarter, half and three quarters of the rows are below.
        counts: rows of each class.
        labels: the type in which answers name the classes.
        style: of a regression's values that are no plain numbers, as a column's.
    """

    name: str
    type: TargetType
    classes: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    counts: tuple[int, ...] = ()
    labels: LabelType = "text"
    style: str | None = None
    quartiles: tuple[float, ...] = ()

    @property
    def positive(self) -> str | None:
        """The class that is looked for, of two."""
        return self.classes[1] if self.type == "binary" else None


@dataclass(frozen=True)
class Schema:
    """A table understood; made by :func:`metricgrad.tables.understanding.understand`.

    Attributes:
        target: what is predicted.
        columns: what it is learned from.
        rows: those that have a target.
        group: the column whose equal values stay together in one part, unless the split column says otherwise, and are
            ranked together.
        weight: the column that says how much a row counts.
        split: the column that says which part a row is in.
        time: the column that parts follow each other by.
        left_out: columns that are not learned from, and why.
        notes: what else to know of the data: rows left out, copies, suspected leaks.
    """

    target: Target
    columns: tuple[Column, ...]
    rows: int
    group: str | None = None
    weight: str | None = None
    split: str | None = None
    time: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What was understood, a line for each thing, to be said before anything is trained."""
        lines = [f"{self.rows:,} rows; target {self.target.name!r}: {self._problem()}"]
        for type, plural in _PLURAL.items():
            if named := [_named(column) for column in self.columns if column.type == type]:
                lines.append(f"{plural} ({len(named)}): {_listed(named)}")
        lines += self._written()
        lines += [f"{role}: {name!r}" for role, name in self.roles().items() if role != "target"]
        lines += [f"left out: {name!r}, {why}" for name, why in self.left_out.items()]
        if gaps := [f"{column.name} ({column.missing:,})" for column in self.columns if column.missing]:
            lines.append(f"rows with missing values: {_listed(gaps)}")
        return lines + list(self.notes)

    def roles(self) -> dict[str, str]:
        """Columns that are not learned from because they mean something else, by what they mean."""
        named = {"group": self.group, "weight": self.weight, "split": self.split, "time": self.time}
        return {"target": self.target.name, **{role: name for role, name in named.items() if name is not None}}

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any) -> Schema:
        """The schema that :meth:`to_json` described.

        Raises:
            MetricgradError: for anything else.
        """
        found = dict(given) if isinstance(given, dict) else given
        if not isinstance(found, dict) or not isinstance(found.get("columns"), list):
            raise MetricgradError(f"schema is {str(given)[:60]!r}; expected a target, columns and what else a table is")
        found["columns"] = tuple(_made(Column, one, "schema: a column") for one in found["columns"])
        found["target"] = _made(Target, found.get("target"), "schema: the target")
        schema = _made(cls, found, "schema")
        schema._check()
        return schema

    def _problem(self) -> str:
        target = self.target
        if target.type == "regression":
            if not target.quartiles:
                return "values (regression)"
            low, median, high = map(_amount, target.quartiles)
            return f"values (regression), median {median}, half of them from {low} to {high}"
        shares = [f"{name} {count / self.rows:.1%}" for name, count in zip(target.classes, target.counts, strict=True)]
        if target.type == "binary":
            return f"binary, positive is {target.positive!r} ({target.counts[1] / self.rows:.1%} of rows)"
        return f"{len(target.classes)} classes in this order: {_listed(shares)}"

    def _written(self) -> list[str]:
        found: dict[str, list[str]] = {}
        for one in (self.target, *self.columns):
            if one.style is not None:
                sort, column = shown(one.name, one.style)
                found.setdefault(sort, []).append(column)
        return [f"numbers written as {sort}: {_listed(columns)}" for sort, columns in found.items()]

    def _check(self) -> None:
        """Refuse what no table gives, though each part is of the right type."""
        target, names = self.target, [column.name for column in self.columns]
        classes = {"binary": 2, "regression": 0}.get(target.type, max(3, len(target.classes)))
        if len(set(target.classes)) != classes or len(target.counts) != classes or min(target.counts, default=0) < 0:
            raise MetricgradError(f"schema: the target is {target.type} and has {len(target.classes)} classes")
        if len(target.quartiles) not in (0, 3 * (target.type == "regression")):
            raise MetricgradError(f"schema: the target is {target.type} and has {len(target.quartiles)} quartiles")
        try:
            labels_of(target.classes, target.labels)
        except (ValueError, OverflowError) as error:
            raise MetricgradError(f"schema: the target's classes are no labels of type {target.labels}") from error
        if not _is_styled(target.style, target.type == "regression"):
            raise MetricgradError(f"schema: the target's style is {target.style!r:.40}, and no numbers are written so")
        if not names or len(set(names)) != len(names) or self.rows < 1 or not target.scale > 0:
            raise MetricgradError("schema: it has no columns, one of them twice, no rows, or a scale of 0")
        for column in self.columns:
            of_levels, of_dates = column.type in ("category", "boolean"), column.type == "date"
            known = {"days", "month", "weekday", "hour"}
            if (
                len(set(column.levels)) != len(column.levels) or bool(column.levels) > of_levels
                or bool(column.parts) != of_dates or not known >= set(column.parts)
                or len(set(column.parts)) != len(column.parts) or not _is_styled(column.style, column.type == "number")
            ):  # fmt: skip
                raise MetricgradError(f"schema: column {column.name!r} is no {column.type}")


def _made(cls: type[Any], given: Any, what: str) -> Any:
    arguments = checked_arguments(cls, given, what)
    names = {one.name for one in fields(cls)}
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items() if name in names})


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _is_styled(style: str | None, of_numbers: bool) -> bool:
    return style is None or (of_numbers and is_style(style))


def _named(column: Column) -> str:
    return f"{column.name} ({len(column.levels)})" if column.type == "category" else column.name


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
