"""A checksum of the user's code: another for another computation, the same for the same one in another dress."""

import functools

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
