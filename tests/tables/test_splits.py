"""Three parts by chance, by group, by time or by a column: they cover the rows, do not overlap, follow the seed."""

import numpy as np
import pandas as pd
import pytest

import metricgrad as mg
from metricgrad.tables.splits import redraws, split_rows
from metricgrad.tables.understanding import understand
from tests.tables.frames import people, prices


def parts_of(frame, target="left", seed=0, **options):
    schema = understand(frame, target, **options)
    rows = split_rows(frame, schema, seed)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(frame)))
    return schema, rows


@pytest.mark.parametrize(("frame", "target"), [(people(), "left"), (prices(), "price")])
def test_by_chance_with_the_shares_of_the_whole(frame, target):
    schema, rows = parts_of(frame, target)
    assert redraws(schema)
    assert [len(part) for part in rows] == [120, 40, 40]
    if target == "left":
        rate = (frame["left"] == "yes").mean()
        assert all((frame["left"].iloc[part] == "yes").mean() == pytest.approx(rate, abs=0.03) for part in rows)
    again, other = split_rows(frame, schema, 0), split_rows(frame, schema, 1)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))
    assert not np.array_equal(rows.test, other.test)


def test_groups_stay_together():
    frame = people().assign(family=[f"f{k // 4}" for k in range(200)])
    _, rows = parts_of(frame, group="family")
    families = [set(frame["family"].iloc[part]) for part in rows]
    assert not families[0] & families[1]
    assert not (families[0] | families[1]) & families[2]
    assert len(rows.test) == pytest.approx(40, abs=8)


@pytest.mark.parametrize(
    "frame", [people(), people().assign(since=range(200)), people().sample(frac=1, random_state=0)]
)
def test_by_time_the_latest_rows_judge(frame):
    schema, rows = parts_of(frame, time="since")
    assert not redraws(schema)
    time = frame["since"].to_numpy()
    assert time[rows.train].max() < time[rows.valid].min()
    assert time[rows.valid].max() < time[rows.test].min()
    assert [len(part) for part in rows] == [120, 40, 40]


def test_rows_of_one_time_or_of_one_group_stay_together_in_time():
    frame = people().assign(year=[2000 + k // 9 for k in range(200)])
    _, rows = parts_of(frame, time="year")
    years = [set(frame["year"].iloc[part]) for part in rows]
    assert max(years[0]) < min(years[1])
    assert max(years[1]) < min(years[2])
    frame["family"] = [f"f{k % 40}" for k in range(200)]
    _, rows = parts_of(frame, time="since", group="family")
    families = [set(frame["family"].iloc[part]) for part in rows]
    assert not families[0] & families[2]


def test_by_a_column():
    said = np.array(["Train"] * 100 + ["dev"] * 50 + ["TEST"] * 50)
    schema, rows = parts_of(people().assign(part=said), split="part")
    assert [part.tolist() for part in rows] == [[*range(100)], [*range(100, 150)], [*range(150, 200)]]
    assert not redraws(schema)
    _, rows = parts_of(people().assign(part=np.where(said == "dev", "train", said)), split="part")
    assert [len(part) for part in rows] == [112, 38, 50]
    assert rows.test.tolist() == [*range(150, 200)]


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (people().assign(part="train"), {"split": "part"}, "train alone"),
        (people().assign(part=["train", "tset"] * 100), {"split": "part"}, r"'tset' in row 2"),
        (people(), {"time": "city"}, r"dates or numbers"),
        (people().assign(t=1), {"time": "t"}, r"1 different values"),
        (people().assign(t=[None, *range(199)]), {"time": "t"}, r"empty in 1 rows \(first in row 1\)"),
        (people().assign(g=["a", "b"] * 100), {"group": "g"}, r"2 different values; 5 or more"),
        (people().assign(g=[None, *range(199)]), {"group": "g"}, r"'g' is empty in 1 rows"),
    ],
)
def test_what_cannot_be_split_is_told(frame, options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        parts_of(frame, **options)


def test_a_class_of_few_rows_is_told():
    frame = pd.DataFrame({"x": range(40), "z": [1.5, 2.5] * 20, "y": ["a"] * 18 + ["b"] * 18 + ["c"] * 4})
    with pytest.raises(mg.MetricgradError, match=r"class 'c' of target 'y' has 4 rows"):
        parts_of(frame, "y")
