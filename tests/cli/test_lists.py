"""``--version``, the lists as JSON, and tables as wide as COLUMNS says."""

import json

import pytest

import metricgrad as mg
from tests.cli.test_table_options import run  # noqa: F401  (a fixture)


@pytest.mark.parametrize("command", ["tasks", "metrics", "losses"])
def test_a_list_is_a_table_or_json(run, monkeypatch, command):  # noqa: F811
    code, out, err = run(command, "--json")
    assert (code, err) == (0, "")
    names = [next(iter(row.values())) for row in json.loads(out)]
    monkeypatch.setenv("COLUMNS", "70")
    _, table, _ = run(command)
    assert max(map(len, table.splitlines())) <= 70
    assert "…" not in table
    monkeypatch.delenv("COLUMNS")
    _, table, _ = run(command)
    assert all(name in table for name in names)


def test_the_version(run):  # noqa: F811
    assert run("--version") == (0, f"metricgrad {mg.__version__}\n", "")
