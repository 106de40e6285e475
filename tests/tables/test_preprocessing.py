"""Numbers and codes by training rows alone; the same after a round through a file; columns matched by name."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import QuantileTransformer

import metricgrad as mg
from metricgrad.tables.columns import read_columns
from metricgrad.tables.preprocessing import Layout, Preprocessing
from metricgrad.tables.reading import read_chunks, read_table
from metricgrad.tables.understanding import understand
from tests.tables.frames import people


def fitted(frame):
    schema = understand(frame, "left")
    return Preprocessing.fit(schema, read_columns(schema, frame.iloc[:120]))


def test_what_is_where():
    frame = people()
    found = fitted(frame)
    # age, income, since in days, months and weekdays; one flag for age; city (other, missing, 3 levels) and member
    assert found.layout == Layout(5, (0,), (5, 4))
    x = found.transform(frame)
    assert x.dtype == torch.float32
    assert x.shape == (200, 8)
    assert x[:, 5].tolist() == frame["age"].isna().astype(float).tolist()
    assert x[7, 6] == 0  # Lima
    assert set(x[:, 6].tolist()) == {0.0, 2.0, 3.0, 4.0}
    assert float(x[:120, 1].mean()) == pytest.approx(0, abs=0.05)
    assert float(x[:120, 1].std()) == pytest.approx(1, abs=0.1)
    assert x[0, 0] == pytest.approx(0, abs=0.05)  # missing: the middle


def test_it_is_the_quantile_transformer_but_for_values_at_the_ends():
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"x": r.poisson(3, 500), "y": r.choice(["no", "yes"], 500)})
    schema = understand(frame, "y")
    found = Preprocessing.fit(schema, read_columns(schema, frame)).transform(frame)[:, 0].numpy()
    wanted = QuantileTransformer(n_quantiles=500, output_distribution="normal").fit_transform(frame[["x"]])[:, 0]
    inside = (frame["x"] > 0) & (frame["x"] < frame["x"].max())
    assert np.allclose(found[inside], wanted[inside], atol=1e-5)
    zeros = (frame["x"] == 0).mean()
    assert found[frame["x"] == 0][0] == pytest.approx(float(torch.special.ndtri(torch.tensor(zeros / 2))), abs=0.05)


def test_the_same_after_a_file_in_chunks_and_in_any_order(tmp_path):
    frame = people()
    found = fitted(frame)
    found.save(tmp_path / "p.safetensors")
    again = Preprocessing.load(tmp_path / "p.safetensors")
    assert again.schema == found.schema
    wanted = found.transform(frame)
    assert torch.equal(again.transform(frame), wanted)
    shuffled = frame[frame.columns[::-1]].drop(columns=["left", "who"]).assign(more=1)
    assert torch.equal(again.transform(shuffled), wanted)
    for name in ("x.csv", "x.parquet"):
        frame.to_csv(tmp_path / name, index=False) if name == "x.csv" else frame.to_parquet(tmp_path / name)
        assert torch.equal(again.transform(read_table(tmp_path / name)), wanted)
        chunks = list(read_chunks(tmp_path / name, 70))
        assert torch.equal(torch.cat([again.transform(chunk) for chunk in chunks]), wanted)


def test_unseen_levels_and_gaps_are_taken():
    found = fitted(people())
    row = people().iloc[[1]].assign(city="Paris", member=None, income=None, since=None)
    x = found.transform(row)[0]
    assert x[6].item() == 0
    assert x[7].item() == 1
    assert bool(x.isfinite().all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="age").assign(Age=1), r"lacks 'age', .*did you mean Age"),
        (lambda f: f.assign(age="old"), r"column 'age' is 'old' in row 1, which is no number"),
        (lambda f: f.assign(since="soon"), r"'since' is 'soon' in row 1, which is no date"),
        (lambda f: f.assign(age=pd.Timestamp("2020-01-01")), r"column 'age' is '2020"),
        (lambda f: pd.concat([f, f[["age"]]], axis=1), r"'age' more than once"),
    ],
)
def test_columns_that_are_missing_or_of_another_type_are_one_sentence(change, words):
    with pytest.raises(mg.MetricgradError, match=words) as told:
        fitted(people()).transform(change(people()))
    assert "\n" not in str(told.value)


def test_a_row_is_told_by_its_place_in_the_whole_table():
    with pytest.raises(mg.MetricgradError, match="in row 1,001,"):
        fitted(people()).transform(people().assign(age="old"), first_row=1000)


def test_a_number_that_no_training_row_has_is_no_harm():
    frame = people()
    schema = understand(frame, "left")
    columns = read_columns(schema, frame.assign(age=None).head(50))
    assert bool(Preprocessing.fit(schema, columns).transform(frame).isfinite().all())


def test_a_file_that_lies_is_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    found = fitted(people())
    for wrong in (found.quantiles[:, :2], found.quantiles[::-1].copy(), found.quantiles * np.nan):
        Preprocessing(found.schema, found.medians, wrong).save(path)
        with pytest.raises(mg.MetricgradError, match=r"p\.safetensors"):
            Preprocessing.load(path)
    path.write_bytes(b"x")
    with pytest.raises(mg.MetricgradError, match=r"cannot read .*p\.safetensors"):
        Preprocessing.load(path)
