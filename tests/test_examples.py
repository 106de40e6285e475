"""The examples run and train."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_plain_loop():
    assert runpy.run_path(str(EXAMPLES / "plain_loop.py"))["main"](epochs=3) > 0.75


def test_the_four_systems_train_in_one_loop():
    found = runpy.run_path(str(EXAMPLES / "four_systems.py"))["main"](epochs=4)
    assert set(found) == {"cross-entropy", "UniLoss", "ReLoss", "AdaLFL", "ALA"}
    assert min(found.values()) > 0.75


def test_a_lightning_module_under_automatic_optimisation():
    assert runpy.run_path(str(EXAMPLES / "lightning_module.py"))["main"](epochs=3) > 0.85
