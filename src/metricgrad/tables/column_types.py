"""What the values of one column are, or why nothing is learned from it."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metricgrad.errors import MetricgradError
from metricgrad.tables.number_styles import looks_written
from metricgrad.tables.schema import Column, ColumnType
from metricgrad.tables.values import (
    DAY,
    arrow_functions,
    as_numbers,
    as_texts,
    as_times,
    counts_of,
    is_text,
    numbers_of,
    style_of,
    times_of,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd

#: Levels of a category that have a number of their own; LightGBM counts with 255 at most.
MOST_LEVELS = 250
#: Pairs of texts that say no and yes, in lower case.
NO_AND_YES = {
    "no": "yes", "n": "y", "false": "true", "f": "t", "0": "1", "0.0": "1.0", "-1": "1", "negative": "positive",
    "neg": "pos", "off": "on", "-": "+", "absent": "present",
}  # fmt: skip

_FEWEST = 20  # rows from which a column's values say what it is
_MOST_MARKERS = 20
_NUMBERS = 0.9
_IDENTIFIERS = 0.5
_CODE = r"^[+-]?0\d"
_ID = re.compile(r"(^|.*[_\s.-])(?i:id|uuid|guid|key|index|rowid)$|.*[a-z](Id|ID)$|^Unnamed: 0$")
_DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y",
    "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%b-%Y", "%b %Y",
)  # fmt: skip
_LIKE_A_DATE = re.compile(r"(?=.*\d)[\w,:+]+([-/. T][\w,:+]+)+")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_SAMPLE = 300


def no_and_yes(texts: list[str]) -> tuple[str, str] | None:
    """Two texts in the order no, yes, where they are a pair that says so.

    Example:
        >>> no_and_yes(["Yes", "No"])
        ('No', 'Yes')
        >>> no_and_yes(["good", "bad"]) is None
        True
    """
    if len(texts) != 2:
        return None
    first, second = texts
    pairs = ((first, second), (second, first))
    return next(((no, yes) for no, yes in pairs if NO_AND_YES.get(no.lower()) == yes.lower()), None)


def understand_column(name: str, column: pd.Series) -> Column | str:
    """A column to learn from, or the reason not to.

    Args:
        name: its name.
        column: its values.

    Raises:
        MetricgradError: for dates that can be read in two ways.
    """
    from pandas.api import types

    if types.infer_dtype(column, skipna=True) in ("mixed", "bytes"):
        return f"it holds values of {type(column.dropna().iloc[0]).__name__}, which are no numbers, texts or dates"
    if types.is_datetime64_any_dtype(column):
        return _date(name, as_times(column, None)[0], None)
    if not is_text(column) and not types.is_bool_dtype(column):
        return _number(name, as_numbers(column)[0])
    texts = as_texts(column)
    missing = texts.null_count
    if missing == len(texts):
        return "it is empty"
    if (found := _numbers_of_text(name, texts)) is not None:
        return found
    counts = counts_of(texts)
    if len(counts) == 1 and not missing:
        return f"it is {next(iter(counts))[:40]!r} in every row"
    if no_and_yes(list(counts)):
        return _of_levels(name, "boolean", counts, missing)
    found = _dates_of_text(name, texts) or _category(name, counts, missing)
    return f"{found}; it looks like money or percent: convert it" if _looks_written(found, counts) else found


def _looks_written(found: Column | str, counts: dict[str, int]) -> bool:
    return isinstance(found, str) and looks_written(counts)


def _number(name: str, numbers: np.ndarray, markers: tuple[str, ...] = ()) -> Column | str:
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return "it holds no finite number"
    if len(present) == len(numbers) and np.ptp(present) == 0:
        return f"it is {present[0]:g} in every row"
    return _that_identify(name, present) or Column(name, "number", len(numbers) - len(present), markers)


def _that_identify(name: str, present: np.ndarray) -> str | None:
    """Whole numbers that count the rows, or are called an identifier."""
    if len(present) < _FEWEST or bool((present % 1 != 0).any()):
        return None
    distinct = len(np.unique(present))
    if distinct == len(present) and (np.ptp(present) == len(present) - 1 or _ID.match(name)):
        return f"whole numbers of which each stands once, {present.min():.0f} to {present.max():.0f}: an identifier"
    return _called_identifier(name, distinct)


def _called_identifier(name: str, distinct: int) -> str | None:
    if not _ID.match(name) or distinct < _FEWEST:
        return None
    return (
        f"its name says identifier ({distinct:,} values); where its rows belong together, "
        f"pass group={name!r} (--group {name})"
    )


def _numbers_of_text(name: str, texts: Any) -> Column | str | None:
    """Text that is numbers, but for at most a few words that mean missing; codes such as 007 are none."""
    numbers, wrong = numbers_of(texts)
    written = style_of(texts, wrong)
    if written is not None:
        numbers, wrong = numbers_of(texts, style=written.style)
    pc = arrow_functions()
    codes = pc.match_substring_regex(texts, _CODE)
    if wrong.sum() > (1 - _NUMBERS) * (len(texts) - texts.null_count) or pc.any(codes).as_py():
        return None
    markers = tuple(sorted(counts_of(texts.filter(wrong))))
    if len(markers) > _MOST_MARKERS:
        return None
    found = _number(name, numbers, markers)
    return replace(found, style=written.style) if written and isinstance(found, Column) else found


def _dates_of_text(name: str, texts: Any) -> Column | str | None:
    import pyarrow as pa

    there = texts.drop_null()
    sample = pa.array(list(counts_of(there[:_SAMPLE])), there.type)
    if not all(_LIKE_A_DATE.fullmatch(text) for text in sample.to_pylist()):
        return None
    able = ["ISO8601", *(date + clock for date, clock in itertools.product(_DATES, _CLOCKS))]
    for tried in (sample[:1], sample, there):
        able = [format for format in able if not times_of(tried, format)[1].any()]
    if not able:
        return None
    read = [times_of(sample, format)[0] for format in able]
    if any(not np.array_equal(read[0], other) for other in read[1:]):
        raise MetricgradError(
            f"column {name!r} holds dates such as {sample[0].as_py()!r}, which can be read as {able[0]} and as "
            f"{able[1]}; write them as YYYY-MM-DD, or leave the column out: drop=[{name!r}] (--drop {name})"
        )
    return _date(name, times_of(texts, able[0])[0], able[0])


def _date(name: str, seconds: np.ndarray, format: str | None) -> Column | str:
    present = seconds[~np.isnan(seconds)]
    if not len(present):
        return "it is empty"
    parts = tuple(part for part, values in parts_of(present).items() if np.ptp(values) > 0)
    if not parts:
        return "it is the same time in every row"
    return Column(name, "date", len(seconds) - len(present), format=format, parts=parts)


def parts_of(seconds: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers a time is learned from.

    Args:
        seconds: ``(N,)`` since 1970, NaN where there is none.

    Returns:
        ``days``, and cyclic ``month`` (1 to 12), ``weekday`` (0 is Monday) and ``hour`` of the day, each ``(N,)``.

    Example:
        >>> {part: float(values[0]) for part, values in parts_of(np.array([86_400.0 * 31 + 3600])).items()}
        {'days': 31.041666666666668, 'month': 2.0, 'weekday': 6.0, 'hour': 1.0}
    """
    missing = np.isnan(seconds)
    times = np.where(missing, 0, seconds).astype("datetime64[s]")
    months = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
    days = times.astype("datetime64[D]").astype(np.int64)
    hours = np.floor((np.where(missing, 0, seconds) % DAY) / 3600)
    found = {"days": seconds / DAY, "month": months, "weekday": (days + 3) % 7, "hour": hours}
    return {part: np.where(missing, np.nan, values.astype(np.float64)) for part, values in found.items()}


def _category(name: str, counts: dict[str, int], missing: int) -> Column | str:
    present = sum(counts.values())
    if present >= _FEWEST and len(counts) > _IDENTIFIERS * present:
        return f"identifiers or free text: {len(counts):,} different values in {present:,} rows"
    return _called_identifier(name, len(counts)) or _of_levels(name, "category", counts, missing)


def _of_levels(name: str, type: ColumnType, counts: dict[str, int], missing: int) -> Column:
    rare = min(5, max(2, sum(counts.values()) // 100))  # rows below which a level is not worth a number of its own
    levels = [level for level, count in counts.items() if count >= rare]
    return Column(name, type, missing, levels=tuple(levels[:MOST_LEVELS]))
