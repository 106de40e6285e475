"""A checksum of the user's code: another for another computation, the same for the same one in another dress."""

import copy
import enum
import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from metricgrad.training.run_folder.code_checksum import code_checksum

SHARE, _calls = 0.5, 0


def _helper(value):
    return value * SHARE


def _plain(scores, targets, beta=1.0):
    global _calls
    _calls += 1
    return [_helper(score) for score in scores if score in {"a", "b", "c"}]


def _documented(scores, targets, beta=1.0):
    """Another text."""
    global _calls
    _calls += 1  # and a comment
    return [
        _helper(score)
        for score in scores
        if score in {"a", "b", "c"}
    ]  # fmt: skip


class _Smoothed(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, scores, targets):
        return nn.functional.cross_entropy(scores, targets, label_smoothing=self.share)


def test_comments_and_docstrings_do_not_count():
    assert code_checksum(_plain) == code_checksum(_documented)


def test_what_the_code_writes_does_not_count():
    before = code_checksum(_plain)
    _plain([], [])
    assert code_checksum(_plain) == before


def test_what_it_reads_and_calls_in_its_module_does(monkeypatch):
    before = code_checksum(_plain)
    monkeypatch.setitem(globals(), "SHARE", 0.25)
    other = code_checksum(_plain)
    monkeypatch.setitem(globals(), "_helper", lambda value: value)
    assert len({before, other, code_checksum(_plain)}) == 3


def test_arguments_and_closures_count():
    def made(beta):
        return lambda scores, targets: beta

    things = [functools.partial(_plain, beta=1.0), functools.partial(_plain, beta=2.0), made(1), made(2)]
    things += [_Smoothed(0.1), _Smoothed(0.2), nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)]
    assert len({*map(code_checksum, things)}) == len(things)
    assert code_checksum(made(1)) == code_checksum(made(1))
    assert code_checksum(_Smoothed(0.1)) == code_checksum(_Smoothed(0.1))


class _Kind(enum.Enum):
    MEAN, SUM = 1, 2


class _Counts:
    def __init__(self, **given):
        self.calls, self.history, self.itself = 0, [], []
        self.itself.append(self.itself)
        self.__dict__.update(given)

    def __call__(self, scores, targets):
        self.calls += 1
        self.history.append(scores)
        return 0.0


def test_what_an_object_counts_in_its_calls_does_not_count():
    thing = _Counts()
    before = code_checksum(thing)
    thing([], [])
    assert code_checksum(thing) == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.ones(2), torch.zeros(2)),
        (np.arange(3), np.arange(3) + 1),
        (_Kind.MEAN, _Kind.SUM),
        (pathlib.Path("a"), pathlib.Path("b")),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))),
    ],
)
def test_values_that_an_object_holds_count(one, other):
    assert code_checksum(_Counts(held=one)) == code_checksum(_Counts(held=copy.deepcopy(one)))
    assert code_checksum(_Counts(held=one)) != code_checksum(_Counts(held=other))
    assert code_checksum(functools.partial(_plain, held=one)) != code_checksum(functools.partial(_plain, held=other))


_HELD = """
import logging, pathlib, random, sys
sys.path.insert(0, sys.argv[1])
from metricgrad.training.run_folder.code_checksum import code_checksum
from tests.training.run_folder.test_code_checksum import _Counts, _plain
sets = frozenset({frozenset({"a", "b"}), frozenset({"c", "ddd"})})
print(code_checksum([_plain, _Counts(
    path=pathlib.Path("a"), log=logging.getLogger("x"), drawn=random.Random(3), module=pathlib, sets=sets
)]))
"""


def test_where_a_module_lies_does_not_count(monkeypatch):
    before = code_checksum(_Counts(module=pathlib))
    monkeypatch.setattr(pathlib.__spec__, "origin", "/elsewhere/pathlib.py")
    assert code_checksum(_Counts(module=pathlib)) == before
    assert code_checksum(_Counts(module=os)) != before


def test_it_is_the_same_in_every_process():
    root = str(pathlib.Path(__file__).parents[3])
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _HELD, root], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(found) == 1


_TABLE, _SEEN, _SUMS, _LAST = {"a": [1.0]}, [], {}, torch.zeros(2)


def _remember(value):
    _SUMS["all"] = _SUMS.get("all", 0) + value
    _SUMS["last"] += value
    _LAST.copy_(torch.full((2,), float(value)))


def _by_table(scores, targets):
    _SEEN.append(len(scores))
    _remember(len(_SEEN) + len(_SUMS) + float(_LAST.sum()))
    found = {}
    found["a"] = _TABLE["a"]
    return found


def test_lists_tables_and_tensors_that_it_reads_from_around_it_count(monkeypatch):
    def made(held):
        return lambda scores, targets: held

    for one, other in (([1], [2]), ({"a": 1}, {"a": 2}), ({1}, {2}), (torch.ones(2), torch.zeros(2))):
        assert code_checksum(made(one)) == code_checksum(made(copy.deepcopy(one)))
        assert code_checksum(made(one)) != code_checksum(made(other))
    before = code_checksum(_by_table)
    monkeypatch.setitem(_TABLE, "a", [2.0])
    assert code_checksum(_by_table) != before


def test_what_it_and_its_helpers_remember_does_not_count():
    before = code_checksum(_by_table)
    _SUMS["last"] = 0.0
    _by_table([1], [1])
    assert (len(_SEEN), float(_LAST[0])) != (0, 0.0)
    assert code_checksum(_by_table) == before
