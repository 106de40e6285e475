"""The command line as a user types it."""

import sys

import pytest

from metricgrad.cli.main import main


@pytest.fixture
def typed(capsys, monkeypatch):
    """Calls metricgrad: exit code, what is on stdout, and on stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["metricgrad", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
