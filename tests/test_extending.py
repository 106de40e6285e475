"""The files of docs/extending.md run, and base classes say all that a subclass lacks."""

import re
import runpy
from pathlib import Path

import pytest

import metricgrad as mg
from metricgrad import grid
from metricgrad.decisions import DECISIONS, Decision
from metricgrad.losses.registry import REGISTRY
from metricgrad.refactoring.base import Refactoring

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", PAGE, re.M | re.S))


@pytest.fixture(autouse=True)
def as_before(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tables = (grid.FORMS, grid.ALIGNERS, DECISIONS, REGISTRY)
    kept = [dict(table) for table in tables]
    yield
    for table, was in zip(tables, kept, strict=True):
        table.clear()
        table.update(was)


@pytest.mark.parametrize("title", FILES)
def test_a_file_trains_saves_and_loads(tmp_path, title):
    path = tmp_path / "mine.py"
    path.write_text(FILES[title])
    runpy.run_path(str(path), run_name="__main__")


def test_there_is_a_file_for_each():
    assert list(FILES) == ["A metric", "A form", "An aligner", "A decision", "A loss for `compare`"]


@pytest.mark.parametrize(
    ("base", "missing"),
    [
        (mg.forms.Form, "kind, config(), forward(scores, targets, call, **context)"),
        (mg.aligners.Aligner, "kind, config(), refusal(form)"),
        (Decision, "kind, "),
        (Refactoring, "name, "),
    ],
)
def test_base_classes_name_all_that_must_be_overridden_in_one_error(base, missing):
    class Mine(base):
        pass

    with pytest.raises(mg.MetricgradError) as raised:
        Mine()
    assert str(raised.value).startswith("Mine cannot be made yet")
    assert missing in str(raised.value)
    assert all(f"{name}(" in str(raised.value) for name in base.__abstractmethods__)


def test_a_kind_that_is_taken_is_refused():
    with pytest.raises(mg.MetricgradError, match="'mix' of Mine is that of Mix"):

        @grid.register
        class Mine(mg.forms.Form):
            kind = "mix"

    with pytest.raises(mg.MetricgradError, match="no subclass of Form or Aligner with a kind"):
        grid.register(3)
