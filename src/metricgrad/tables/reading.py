"""CSV and Parquet files as data frames, whole or in chunks.

The columns of a CSV file stay text as it was written, so that ``007`` is not 7 and one chunk is read as the next one;
what the text means is found once, by :func:`metricgrad.tables.understanding.understand`.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metricgrad.errors import MetricgradError

if TYPE_CHECKING:
    import pandas as pd

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET = (".parquet", ".pq")
CHUNK = 50_000
_SEPARATORS = ",;\t|"
_SNIFFED = 1 << 16
_PARQUET_BEGINS = b"PAR1"
_OTHERS = {
    _PARQUET_BEGINS: f"a Parquet file; give it a name that ends in {PARQUET[0]}",
    b"PK\3\4": "a spreadsheet or a zip file; save it as CSV in UTF-8",
}


def checksum(path: str | os.PathLike[str]) -> str:
    """Of a file's bytes, as cards and reports show it."""
    with Path(path).open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as those of tables do.

    Example:
        >>> is_table("churn.csv"), is_table("churn.py:task")
        (True, False)
    """
    return str(path).lower().endswith((*CSV, *PARQUET))


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as those of Parquet files do, whose columns have types."""
    return str(path).lower().endswith(PARQUET)


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The whole table.

    Args:
        path: of a file that ends in .csv or .tsv, also .gz after it, or in .parquet. Fields of a CSV file stand between
            commas, semicolons, tabs or bars, whichever its first line has most of; with semicolons ``1,5`` is 1.5 and
            ``2.353,40`` is 2353.4, and in a column with such commas ``1.200`` is 1200.

    Returns:
        One row for each of the file's, columns named as there. Those of a CSV file hold text, NaN where a field is
        empty; those of a Parquet file what Arrow makes of them.

    Warns:
        UserWarning: where a number of a file with semicolons could be another one: ``1.200`` in a column without commas
            where other columns have them, or ``1,200`` where others have points.

    Raises:
        MetricgradError: in one sentence, for a file that is missing, empty or malformed, has a row of more fields than
            the first line names, or names a column twice or not at all.
    """
    import pandas as pd

    return pd.concat(list(read_chunks(path)), ignore_index=True)


def read_chunks(
    path: str | os.PathLike[str],
    rows: int = CHUNK,
    *,
    columns: Iterable[str] | None = None,
    may_be_empty: bool = False,
) -> Iterator[pd.DataFrame]:
    """The table a number of rows at a time, so that it need not fit into memory.

    Args:
        path: as for :func:`read_table`.
        rows: of a chunk, at most.
        columns: those to read, where they are there; all by default.
        may_be_empty: whether a table of column names alone is one chunk of no rows, and not refused.

    Raises:
        MetricgradError: as :func:`read_table`, once the row is reached.
    """
    file = Path(path)
    if not is_table(file):
        raise MetricgradError(
            f"{str(path)!r} does not end in {', '.join(CSV[:2])} or {PARQUET[0]}; name a file that does"
        )
    if not file.is_file():
        there = sorted(one.name for one in file.parent.glob("*") if is_table(one))[:5] if file.parent.is_dir() else []
        known = f"; there are {', '.join(there)}" if there else "; name one that is there"
        raise MetricgradError(f"there is no file {str(path)!r} (seen from {os.getcwd()}){known}")
    read = _parquet_chunks if is_parquet(file) else _csv_chunks
    wanted = None if columns is None else set(columns)
    chunks, empty = read(file, rows, wanted), True
    while True:
        with _told(file):  # not around the yield: what the caller does in between is not the file's fault
            chunk = next(chunks, None)
        if chunk is None:
            break
        empty = empty and not len(chunk)
        yield chunk
    if empty and not may_be_empty:
        raise MetricgradError(f"{str(path)!r} has column names and no rows; give a file with rows")


def _csv_chunks(file: Path, rows: int, wanted: set[str] | None) -> Iterator[pd.DataFrame]:
    import pandas as pd

    separator = _separator(file)
    shared: dict[str, Any] = {
        "sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""], "skipinitialspace": True,
        "encoding": "utf-8-sig", "index_col": False,
    }  # fmt: skip
    named = pd.read_csv(file, header=None, nrows=1, **shared).iloc[0]
    names = [str(name).strip() for name in named.fillna("")]
    _check_names(file, names)
    kept = [name for name in names if wanted is None or name in wanted]
    # not usecols=kept, with which pandas lets rows of too many fields pass
    reader: Any = pd.read_csv(file, header=0, names=names, chunksize=rows, **shared)
    commas = _DecimalCommas(file)
    with reader:
        for chunk in reader:
            yield commas.with_points(chunk[kept]) if separator == ";" else chunk[kept]


def _separator(file: Path) -> str:
    """The one the first line has most of; a comma where it has none, as in a table of one column."""
    import gzip

    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as opened:
        start = opened.read(_SNIFFED)
    if other := next((is_said for begin, is_said in _OTHERS.items() if start.startswith(begin)), None):
        raise MetricgradError(f"{str(file)!r} is {other}")
    if b"\0" in start:
        raise MetricgradError(f"{str(file)!r} holds bytes of 0, as text never does; save it as CSV in UTF-8")
    line = start.lstrip(b"\r\n \xef\xbb\xbf").splitlines()[:1]
    if not line:
        raise MetricgradError(f"{str(file)!r} is empty; give a file with column names and rows")
    outside_quotes = b"".join(line[0].split(b'"')[::2]).decode("utf-8", "replace")
    counted = Counter(one for one in outside_quotes if one in _SEPARATORS)
    return max(_SEPARATORS, key=lambda one: counted[one])


def _check_names(file: Path, names: list[str]) -> None:
    if unnamed := [number for number, name in enumerate(names, 1) if not name]:
        raise MetricgradError(
            f"{str(file)!r}: column {unnamed[0]} has no name in the first line; give every column one"
            + (" (a table with row names of its own needs a name for them too)" if unnamed == [1] else "")
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise MetricgradError(f"{str(file)!r} has the column {twice[0]!r} more than once; rename one of them")
    if all(_is_number(name) for name in names):
        raise MetricgradError(
            f"{str(file)!r}: the first line ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) names no "
            "columns, it holds numbers; put a line of names above it"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _DecimalCommas:
    """Writes the decimal commas of a file with semicolons as points, chunk by chunk.

    Points part thousands, and go, in numbers that have a comma too and in columns of such: beside ``950,00``, ``1.200``
    is 1200. What a column leaves open and the rest of the file speaks against is said, once for each column.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._said = str(file), set[str]()

    def with_points(self, chunk: pd.DataFrame) -> pd.DataFrame:
        chunk, commas, points = chunk.copy(), set[str](), set[str]()  # columns that have decimals for certain
        doubtful: dict[str, tuple[str, set[str]]] = {}
        for name in chunk.columns:
            text: Any = chunk[name]
            comma, three, thousands, point = (text.str.fullmatch(sort).eq(True) for sort in _WITH_SIGNS)
            point &= ~thousands
            commas |= {name} if (comma & ~three).any() else set()
            points |= {name} if point.any() else set()
            if comma.any() and not (comma & ~three).any():
                doubtful[name] = text[comma].iloc[0].strip(), points
            elif thousands.any() and not comma.any() and not point.any():
                doubtful[name] = text[thousands].iloc[0].strip(), commas
            if comma.any():
                apart = comma if point.any() else comma | thousands
                text = text.mask(apart, text.str.replace(".", "", regex=False))
                chunk[name] = text.mask(comma, text.str.replace(_DECIMALS, _pointed, regex=True))
        for name, (value, others) in doubtful.items():
            if others and name not in self._said:
                self._said.add(name)
                warnings.warn(
                    f"{self._file!r}: column {name!r} holds {value!r}, read as {value.replace(',', '.')}, and decimals "
                    f"of column {min(others)!r} stand behind the other sign; write it with no sign between thousands "
                    "where it is another number",
                    stacklevel=2,
                )
        return chunk


#: In a file with semicolons: with a decimal comma, with one before three digits, with points between thousands or
#: before three digits, and with a point.
_WITH_SIGNS = (
    r"\s*[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+),\d+\s*",
    r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*",
    r"\s*[+-]?[1-9]\d{0,2}(\.\d{3})+\s*",
    r"\s*[+-]?\d*\.\d+\s*",
)
_DECIMALS = re.compile(r"^\s*([+-]?\d+),(\d+)\s*$")


def _pointed(found: re.Match[str]) -> str:
    """With a fourth digit where there are three, which no style of numbers takes for thousands."""
    return f"{found[1]}.{found[2]}{'0' * (len(found[2]) == 3)}"


def _parquet_chunks(file: Path, rows: int, wanted: set[str] | None) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open("rb") as opened:
        if not (begin := opened.read(len(_PARQUET_BEGINS))):
            raise MetricgradError(f"{str(file)!r} is empty; give a file with column names and rows")
    if begin != _PARQUET_BEGINS:
        raise MetricgradError(
            f"{str(file)!r} is no Parquet file; where it is text, give it a name that ends in {CSV[0]}"
        )
    with pq.ParquetFile(file) as opened:
        names = list(opened.schema_arrow.names)
        _check_names(file, names)
        kept = [name for name in names if wanted is None or name in wanted]
        schema = opened.schema_arrow
        if opened.metadata.num_rows == 0:
            yield pa.table({name: pa.array([], pa.string()) for name in kept}).to_pandas()
            return
        for batch in opened.iter_batches(batch_size=rows, columns=kept):
            arrays = [_plain(batch.column(name), schema.field(name).type) for name in kept]
            table = pa.table(arrays, names=kept)
            yield table.to_pandas(ignore_metadata=True, date_as_object=False)


def _plain(array: Any, kind: Any) -> Any:
    """An Arrow column as numbers, text, booleans or times; what is none of them is left as it is, to be named later."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _plain(array.cast(kind.value_type), kind.value_type)
    if types.is_decimal(kind) or types.is_float16(kind):
        return array.cast(pa.float64())
    if types.is_null(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return array.cast(pa.string())
    return array


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Whatever a malformed file makes the readers raise, in one sentence."""
    from pandas.errors import ParserWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # of rows longer than the first, which pandas would cut
            yield
    except MetricgradError:
        raise
    except UnicodeDecodeError as error:
        raise MetricgradError(
            f"{str(file)!r} is not in UTF-8 ({error.reason}); save it as such: iconv -f cp1252 -t utf8 {file.name}"
        ) from error
    except ParserWarning as error:
        raise MetricgradError(
            f"{str(file)!r} has rows of more fields than its first line names; give every column a name, and quote "
            "fields that hold separators"
        ) from error
    except ModuleNotFoundError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = said.removeprefix("Error tokenizing data. C error: ")
        raise MetricgradError(f"{str(file)!r} cannot be read: {said}; mend the file, or save it anew") from error
