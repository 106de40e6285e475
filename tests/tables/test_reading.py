"""Files as people have them: separators, marks, quotes; and what is wrong with one, in one sentence."""

import datetime
import decimal
import gzip
import warnings

import pandas as pd
import pytest

import metricgrad as mg
from metricgrad.tables.reading import read_chunks, read_table


def read(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read_table(path)
    return {column: [None if pd.isna(v) else v for v in found[column]] for column in found.columns}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n007, x y\n,2\n", {"a": ["007", None], "b": ["x y", "2"]}),
        ("a;b\n1,5;x\n-2,25;y, z\n", {"a": ["1.5", "-2.25"], "b": ["x", "y, z"]}),
        ("a;b\n2.353,40;1.2\n-1.200.950,5;\n", {"a": ["2353.40", "-1200950.5"], "b": ["1.2", None]}),
        ("\ufeffa\tb\r\n1\t2\r\n", {"a": ["1"], "b": ["2"]}),
        ('"a,1;2;3;4",b\n1,"x\ny"\n', {"a,1;2;3;4": ["1"], "b": ["x\ny"]}),
        ("a,b\n1\nNA,2\n", {"a": ["1", "NA"], "b": [None, "2"]}),
        (gzip.compress(b"a|b\n1|2\n", mtime=0), {"a": ["1"], "b": ["2"]}),
    ],
)
def test_text_stays_as_it_was_written(tmp_path, text, found):
    assert read(tmp_path, text, "x.csv.gz" if isinstance(text, bytes) else "x.csv") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "column names and no rows"),
        ("1,2\n3,4\n", "names no columns"),
        ("a,a\n1,2\n", "column 'a' more than once"),
        (",a\n1,2\n", "row names"),
        ("a,b\n1,2,3\n4,5,6\n", "rows of more fields"),
        ("a,b\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
        ('a,b\n"1,2\n', "EOF inside string"),
        (b"a,b\n\xff\xfe,2\n", "not in UTF-8"),
        (b"a\0,b\n1,2\n", "bytes of 0"),
        (b"PAR1\x15\x04", "is a Parquet file; give it a name that ends in .parquet"),
        (b"PK\3\4\x14", "is a spreadsheet or a zip file; save it as CSV"),
    ],
)
def test_a_malformed_file_is_one_sentence(tmp_path, text, words):
    with pytest.raises(mg.MetricgradError, match=words) as told:
        read(tmp_path, text)
    assert "\n" not in str(told.value)
    assert "x.csv" in str(told.value)


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"PAR1 nonsense", "x.parquet"), (b"a,b\n1,2\n", "x.pq"), (b"", "x.pq"), (b"\x1f\x8bxx", "x.csv.gz")],
)
def test_malformed_binary_files_too(tmp_path, raw, name):
    with pytest.raises(mg.MetricgradError, match=r"cannot be read|is empty|is no Parquet file; where it is text"):
        read(tmp_path, raw, name)


def test_a_missing_file_says_which_tables_there_are(tmp_path):
    (tmp_path / "churn.csv").write_text("a\n1\n")
    with pytest.raises(mg.MetricgradError, match=r"no file .*; there are churn\.csv"):
        read_table(tmp_path / "chrun.csv")
    with pytest.raises(mg.MetricgradError, match=r"does not end in \.csv"):
        read_table(tmp_path / "churn.xlsx")


def test_parquet_types_become_plain_ones(tmp_path):
    day = datetime.date(2020, 1, 2)
    frame = pd.DataFrame(
        {
            "day": [day, None],
            "kind": pd.Categorical(["a", None]),
            "dec": [decimal.Decimal("1.5"), None],
            "none": [None] * 2,
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    found = read_table(tmp_path / "x.parquet")
    assert found["day"][0] == pd.Timestamp(day)
    assert found["kind"][0] == "a"
    assert found["dec"][0] == 1.5
    assert found["none"].isna().all()


def test_chunks_together_are_the_table(tmp_path):
    frame = pd.DataFrame({"a": range(25), "b": [f"{k:03d}" for k in range(25)], "c": 1.5})
    for name in ("x.csv", "x.parquet"):
        frame.to_csv(tmp_path / name, index=False) if name.endswith("csv") else frame.to_parquet(tmp_path / name)
        chunks = list(read_chunks(tmp_path / name, 10, columns=["b", "a", "absent"]))
        assert [len(chunk) for chunk in chunks] == [10, 10, 5]
        whole = pd.concat(chunks, ignore_index=True)
        assert list(whole.columns) == ["a", "b"]
        assert whole["b"].tolist() == frame["b"].tolist()


def test_a_caller_s_own_warnings_stay_their_own(tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    for _ in read_chunks(tmp_path / "x.csv"):
        with pytest.warns(pd.errors.ParserWarning):
            warnings.warn("mine", pd.errors.ParserWarning, stacklevel=1)
