"""The values of a column as text, numbers or times: the same ones whichever file or frame they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metricgrad.errors import MetricgradError
from metricgrad.tables.number_styles import Written, has_digits, number_of, written_as

if TYPE_CHECKING:
    import pandas as pd

#: Texts that stand for a missing value wherever they are; "none" is none of them, it may be a level.
EMPTY = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "<NA>", "#N/A", "NULL", "null", "NaT")
#: Seconds of a day.
DAY = 86_400.0

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?inf$"


def arrow_functions() -> Any:
    """Arrow's functions of whole columns, which are made when they are imported, so that no type checker sees them."""
    import pyarrow.compute

    return pyarrow.compute


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """The values of one column."""
    column: Any = frame[name]
    return column


def is_text(column: pd.Series) -> bool:
    """Whether its values are text or things, rather than numbers, booleans or times."""
    from pandas.api import types

    plain = types.is_numeric_dtype(column) or types.is_bool_dtype(column) or types.is_datetime64_any_dtype(column)
    return not plain


def is_boolean(column: pd.Series) -> bool:
    """Whether its values are True and False, rather than words for them."""
    from pandas.api import types

    return types.is_bool_dtype(column)


def as_texts(column: pd.Series) -> Any:
    """Text without space around it, null where it is missing; whole numbers without a point.

    Args:
        column: of any sort.

    Returns:
        An Arrow array of large strings, whose functions are many times as fast as those of Python's text.

    Example:
        >>> import pandas as pd
        >>> as_texts(pd.Series([1.0, 2.5, None])).to_pylist()
        ['1', '2.5', None]
    """
    import pyarrow as pa

    pc = arrow_functions()
    texts = pc.utf8_trim_whitespace(_as_arrow(column))
    null = pc.is_in(texts, value_set=pa.array(EMPTY, texts.type))
    return pc.if_else(null, pa.scalar(None, texts.type), texts)


def _as_arrow(column: pd.Series) -> Any:
    import pyarrow as pa
    from pandas.api import types

    if types.is_float_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
        texts = [None if np.isnan(v) else str(int(v)) if v.is_integer() else str(v) for v in values]
        return pa.array(texts, pa.large_string())
    if column.dtype == object and types.infer_dtype(column, skipna=True) != "string":
        texts = [None if missing else str(v) for v, missing in zip(column, column.isna(), strict=True)]
        return pa.array(texts, pa.large_string())
    if column.dtype != object and is_text(column) is False:
        column = column.astype(str).mask(column.isna(), None)
    found = pa.array(column, from_pandas=True)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found.cast(found.type.value_type if pa.types.is_dictionary(found.type) else found.type).cast(
        pa.large_string()
    )


def as_numbers(
    column: pd.Series, markers: Sequence[str] = (), style: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 numbers, NaN where there is none; infinite ones count as missing.

    Args:
        column: of numbers, booleans or text.
        markers: texts that mean missing, beside the usual ones.
        style: in which text is written, see :mod:`metricgrad.tables.number_styles`; plainly by default.

    Returns:
        The numbers, and booleans that are True where something stands that is neither a number nor missing.
    """
    from pandas.api import types

    if is_text(column):
        return numbers_of(as_texts(column), markers, style)
    if types.is_datetime64_any_dtype(column):
        return np.full(len(column), np.nan), column.notna().to_numpy(bool)
    found = column.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(found), found, np.nan), np.zeros(len(column), bool)


def numbers_of(texts: Any, markers: Sequence[str] = (), style: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`as_numbers` says of a column, of its :func:`as_texts`."""
    import pyarrow as pa

    pc = arrow_functions()
    if style is not None:
        texts = _plainly(texts, style)
    able = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
    found = pc.cast(pc.if_else(able, texts, pa.scalar(None, texts.type)), pa.float64())
    missing = pc.is_in(texts, value_set=pa.array([None, *markers], texts.type))
    numbers = found.to_numpy(zero_copy_only=False)
    wrong = ~able.to_numpy(zero_copy_only=False) & ~missing.to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(numbers), numbers, np.nan), wrong


def style_of(texts: Any, wrong: np.ndarray) -> Written | None:
    """How the numbers of a column are written, where some of its texts are no plain ones but numbers all the same."""
    if not any(has_digits(text) for text in counts_of(texts.filter(wrong))):
        return None
    return written_as(counts_of(texts))


def _plainly(texts: Any, style: str) -> Any:
    """Numbers of a style as plain ones, what is none as it is; each different text is read once."""
    import pyarrow as pa

    pc = arrow_functions()
    coded = pc.dictionary_encode(texts)
    read = [(text, number_of(text, style)) for text in coded.dictionary.to_pylist()]
    return pa.array([text if number is None else repr(number) for text, number in read], texts.type).take(coded.indices)


def as_times(column: pd.Series, format: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 in UTC as float64, NaN where there is no time.

    Args:
        column: of times or text.
        format: of the text, as :func:`pandas.to_datetime` takes it; None for a column that held times.

    Returns:
        The seconds, and booleans that are True where something stands that is neither a time nor missing.
    """
    import pandas as pd

    if is_text(column):
        return times_of(as_texts(column), format)
    if not pd.api.types.is_datetime64_any_dtype(column):
        return np.full(len(column), np.nan), column.notna().to_numpy(bool)
    return _seconds(pd.to_datetime(column, utc=True)), np.zeros(len(column), bool)


def times_of(texts: Any, format: str | None) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`as_times` says of a column, of its :func:`as_texts`; each different text is read once."""
    import pandas as pd

    pc = arrow_functions()
    coded = pc.dictionary_encode(texts)
    different = pd.Series(coded.dictionary.to_pylist(), dtype=object)
    times = pd.to_datetime(different, format=format or "ISO8601", errors="coerce", utc=True)
    known = np.append(_seconds(times), np.nan)
    seconds = known[pc.fill_null(coded.indices, len(different)).to_numpy(zero_copy_only=False)]
    return seconds, np.isnan(seconds) & ~texts.is_null().to_numpy(zero_copy_only=False)


def _seconds(times: pd.Series) -> np.ndarray:
    import pandas as pd

    found = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return found.to_numpy(np.float64, na_value=np.nan)


def codes_of(texts: Any, levels: Sequence[str]) -> np.ndarray:
    """``(N,)`` int64 place of each text among the levels, -1 for a text that is none and -2 for none at all."""
    import pyarrow as pa

    pc = arrow_functions()
    found = pc.fill_null(pc.index_in(texts, value_set=pa.array(levels, texts.type)), -1)
    codes = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(texts.is_null().to_numpy(zero_copy_only=False), -2, codes)


def counts_of(texts: Any) -> dict[str, int]:
    """How often each text is there, the most frequent first, then by the text."""
    pc = arrow_functions()
    found = pc.value_counts(texts.drop_null())
    counts = zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)
    return dict(sorted(counts, key=lambda pair: (-pair[1], pair[0])))


def refuse(name: str, column: pd.Series, wrong: np.ndarray, expected: str, first_row: int = 0) -> None:
    """Raise for the first value that is none of what a column holds.

    Args:
        name: of the column, as in "column 'age'".
        column: its values.
        wrong: where a value is not what is expected.
        expected: what it is not, as in "which is no number".
        first_row: how many rows came before this chunk.

    Raises:
        MetricgradError: with the value and its row, counted from 1.
    """
    if bool(wrong.any()):
        at = int(wrong.argmax())
        raise MetricgradError(
            f"{name} is {str(column.iloc[at])[:40]!r} in row {first_row + at + 1:,}, {expected}; mend it, or leave "
            "that row out"
        )
