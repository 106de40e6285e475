"""Money, percent and thousands are numbers where the whole column says so, and are read alike in new files."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from metricgrad.tables.columns import read_columns
from metricgrad.tables.number_styles import number_of, written_as
from metricgrad.tables.reading import read_table
from metricgrad.tables.schema import Schema
from metricgrad.tables.target import encode_target
from metricgrad.tables.task import task_of_table
from metricgrad.tables.understanding import understand


@pytest.mark.parametrize(
    ("texts", "style", "numbers"),
    [
        (["$18,584", "$950", "-$1,200.50", "n/a"], ".$", [18584, 950, -1200.5, None]),
        (["2,140.49", "12", "1,234,567"], ".", [2140.49, 12, 1234567]),
        (["2.353,40", "950,00", "1.200"], ",", [2353.4, 950, 1200]),
        (["75%", "7.5 %", "0"], ".%", [75, 7.5, 0]),
        (["€ 1.200", "€ 12,50", "- € 3"], ",€", [1200, 12.5, -3]),
        (["1 200,50 €", "1\u00a0200 €", "0,5 €"], ",€", [1200.5, 1200, 0.5]),
        (["CHF 1'200.50", "CHF 3"], ".CHF", [1200.5, 3]),
        (["0,123", "0,5"], ",", [0.123, 0.5]),
    ],
)
def test_what_is_written_one_way_throughout_is_read_so(texts, style, numbers):
    found = written_as(texts)
    assert (found.style, found.doubtful) == (style, None)
    assert [number_of(text, style) for text in texts] == numbers


@pytest.mark.parametrize(
    "texts",
    [
        ["$5", "€5"], ["$5", "5"], ["75%", "0.75"], ["2,140.49", "2.140,49"], ["1,2,3", "1,2"], ["12.05.2020"],
        ["$5", "many 5"], ["$5$"], ["555 123 456"], ["1.2.3"], ["none"],
    ],
)  # fmt: skip
def test_what_mixes_or_is_something_else_is_left(texts):
    assert written_as(texts) is None


def frame_of(values, **more):
    rows = 60
    repeated = (values * rows)[:rows]
    return pd.DataFrame(
        {"x": repeated, "z": np.arange(rows) % 7 + 0.5, "y": (["no", "yes", "no"] * rows)[:rows], **more}
    )


def again(schema):
    return Schema.from_json(json.loads(json.dumps(schema.to_json())))


@pytest.mark.parametrize(
    ("values", "said", "read"),
    [
        (["$18,584", "$2,140.49", "", *["$3.50"] * 10, "-"], "numbers written as money: x ($)", 18584),
        (["75%", "12%", "3.5%"], "numbers written as percent: x", 75),
        (["2.353,40", "950,00"], "numbers written as thousands or decimal commas: x (1.234,5)", 2353.4),
    ],
)
def test_a_column_is_numbers_and_new_files_are_read_alike(values, said, read):
    schema = again(understand(frame_of(values), "y"))
    assert schema.columns[0].type == "number"
    assert said in schema.describe()
    assert not any("taken for" in note for note in schema.notes)
    assert read_columns(schema, frame_of(values[::-1])).numbers[len(values) - 1, 0] == read
    assert read_columns(schema, frame_of([12.5])).numbers[0, 0] == 12.5  # as numbers already


def test_a_few_thousands_among_plain_numbers_are_not_taken_for_missing():
    schema = understand(frame_of([*map(str, range(100, 140)), "1,250"]), "y")
    assert (schema.columns[0].missing, schema.columns[0].markers) == (0, ())
    assert read_columns(schema, frame_of(["1,250"])).numbers[0, 0] == 1250


def test_what_can_be_read_in_two_ways_is_read_as_the_other_columns_or_said(tmp_path):
    def read(**more):
        frame_of(["1,234", "951"], **more).drop(columns="z").to_csv(tmp_path / "x.csv", index=False)
        frame = read_table(tmp_path / "x.csv")
        schema = understand(frame, "y")
        return read_columns(schema, frame).numbers[0, 0], [note for note in schema.notes if "taken for" in note]

    assert read() == (
        1234,
        ["'x' holds '1,234', taken for 1,234, and so throughout; write it plainly where it is another number"],
    )
    assert read(other=["2.353,40", "1,5"] * 30) == (1.234, [])
    assert read(other=["2.5", "1.5"] * 30) == (1234, [])
    assert read(other=["2.5", "1.5"] * 30, more=["2,5", "1,5"] * 30)[1] != []


def test_files_with_semicolons_are_of_decimal_commas(tmp_path):
    lines = [f"{a};{b};{c};{'yes' if k % 3 else 'no'}" for k, (a, b, c) in enumerate([
        ("950,00", "€ 1.200", "12,5%"), ("2.353,40", "€ 12,50", "3%"), ("1.200,10", "€ 7", "1,25%"),
    ] * 20)]  # fmt: skip
    (tmp_path / "x.csv").write_text("\n".join(["a;b;c;y", *lines]))
    frame = read_table(tmp_path / "x.csv")
    schema = understand(frame, "y")
    assert [column.type for column in schema.columns] == ["number"] * 3
    assert read_columns(schema, frame).numbers[:3].tolist() == [[950, 1200, 12.5], [2353.4, 12.5, 3], [1200.1, 7, 1.25]]


def test_a_column_that_mixes_is_left_out_with_what_to_do():
    mixed = [f"${k}" if k % 2 else f"{k} €" for k in range(60)]
    said = understand(frame_of(mixed), "y").left_out["x"]
    assert said.startswith("identifiers or free text")
    assert said.endswith("; it looks like money or percent: convert it")


def test_a_target_of_money_is_a_regression():
    values = [f"${1000 + 37 * k:,}" for k in range(60)]
    frame = frame_of([1.0, 2.0, 3.0]).assign(price=values)
    task = task_of_table(frame, target="price", metric="mae")
    target = again(task.schema).target
    assert target.style == ".$"
    assert "numbers written as money: price ($)" in task.describe()
    back = encode_target(target, frame["price"]) * target.scale + target.centre
    assert np.allclose(back, [1000 + 37 * k for k in range(60)])
    assert torch.isfinite(task.load(0)[0][1]).all()


def _read_semicolons(path, *columns):
    lines = [";".join(row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([";".join("abcd"[: len(columns)]), *lines]))
    return read_table(path)


def test_points_beside_decimal_commas_part_thousands(tmp_path):
    frame = _read_semicolons(tmp_path / "x.csv", ["950,00", "1.200", "1.234.567"], ["1,5", "1.25", "1.200"])
    assert frame["a"].astype(float).tolist() == [950, 1200, 1234567]
    assert frame["b"].astype(float).tolist() == [1.5, 1.25, 1.2]  # 1.25 says that points are for decimals too


@pytest.mark.filterwarnings("error")
def test_a_decimal_comma_is_none_between_thousands_for_a_column_of_another_style(tmp_path):
    money = ["€ 1.200", "€ 12,50", "€ 1,5"] * 20
    schema = understand(_read_semicolons(tmp_path / "x.csv", money, ["no", "yes", "no"] * 20), "b")
    assert schema.columns[0].style == ",€"
    frame = _read_semicolons(tmp_path / "new.csv", ["1,234", "€ 1.234", "12,5"], ["no", "yes", "no"])
    assert read_columns(schema, frame).numbers[:, 0].tolist() == [1.234, 1234, 12.5]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ((["1.200", "1.350"], ["0,5", "1,5"]), "column 'a' holds '1.200', read as 1.200, .* column 'b' stand behind"),
        ((["1,200", "1,350"], ["0.5", "1.5"]), "column 'a' holds '1,200', read as 1.200, .* column 'b' stand behind"),
        ((["1,200", "1,350"], ["0,5", "1,5"]), None),
        ((["1.200", "1.350"], ["0.5", "1.5"]), None),
    ],
)
def test_what_the_rest_of_the_file_speaks_against_is_said(tmp_path, columns, said):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _read_semicolons(tmp_path / "x.csv", *columns)
    assert len(told) == (said is not None)
    assert said is None or re.search(said, str(told[0].message))
