"""The examples run and train."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_plain_loop():
    assert runpy.run_path(str(EXAMPLES / "plain_loop.py"))["main"](epochs=3) > 0.75
