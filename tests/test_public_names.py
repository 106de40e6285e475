"""The public names: listed, lazy, and never shadowed by a module."""

from types import ModuleType

import pytest

import metricgrad as mg
from metricgrad.grid import ALIGNERS, FORMS


def test_every_public_name_is_what_it_says_twice_over():
    for _ in range(2):  # importing a submodule must not put the module in the name's place
        for name in set(mg.__all__) - {"aligners", "decisions", "forms", "functional"}:  # modules by design
            assert not isinstance(getattr(mg, name), ModuleType), name


@pytest.mark.parametrize(
    ("namespace", "known", "more"),
    [(mg.forms, FORMS, {"Form", "HandMade"}), (mg.aligners, ALIGNERS, {"Aligner"})],
    ids=["forms", "aligners"],
)
def test_every_half_of_the_grid_is_reachable_under_its_class_name(namespace, known, more):
    assert {getattr(namespace, cls.__name__) for cls in known.values()} == set(known.values())
    assert set(dir(namespace)) == {cls.__name__ for cls in known.values()} | more
    for name in dir(namespace):
        assert getattr(namespace, name).__name__ == name


@pytest.mark.parametrize(
    ("namespace", "wrong", "right"),
    [
        (mg.forms, "NeuralLos", "NeuralLoss"),
        (mg.forms, "handmade", "HandMade"),
        (mg.aligners, "Lookahead", "LookAhead"),
        (mg, "Uniloss", "UniLoss"),
        (mg, "metric", "Metric"),
    ],
)
def test_a_wrong_name_suggests_the_nearest(namespace, wrong, right):
    with pytest.raises(AttributeError, match=rf"no attribute '{wrong}': did you mean .*{right}"):
        getattr(namespace, wrong)
    assert not hasattr(namespace, wrong)
    assert not hasattr(namespace, "__path_of_nobody__")
