"""The LightningModule of ``fit``: its steps, and what Lightning and the reader see of them."""

import os
import signal
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from metricgrad.training.batches import loader
from metricgrad.training.engine import Engine
from metricgrad.training.fit import fit

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def _fit(**options):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    train, valid = (X[:40], Y[:40]), (X[40:], Y[40:])
    return fit(model, train, valid, metric="accuracy", loss="cross_entropy", batch_size=8, **options)


def _counted(monkeypatch, name):
    seen, method = [], getattr(Engine, name)
    monkeypatch.setattr(Engine, name, lambda self, *given: seen.append(given) or method(self, *given))
    return seen


def test_an_epoch_is_one_batch_to_lightning(monkeypatch):
    epochs, steps = _counted(monkeypatch, "training_step"), _counted(monkeypatch, "step")
    result = _fit(epochs=3)
    assert (len(epochs), len(steps), len(result.history)) == (3, 15, 3)
    assert [number for _, number in steps[:6]] == [0, 1, 2, 3, 4, 0]


def test_a_bar_counts_steps_and_shows_the_last_epoch(capfd, monkeypatch):
    _fit(epochs=2)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("metricgrad.progress.PATIENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _fit(epochs=40)
    said = capfd.readouterr().err
    assert "fit:" in said
    assert "/200" in said
    assert "valid=" in said


def test_a_signal_to_end_is_heard_within_an_epoch(monkeypatch):
    steps = _counted(monkeypatch, "step")
    step = Engine.step

    def ended(self, *given):
        step(self, *given)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Engine, "step", ended)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        _fit(epochs=3)
    assert len(steps) == 7
    assert signal.getsignal(signal.SIGTERM) == before


def test_batches_of_tensors_are_indexed_by_tensors_in_the_order_of_torch():
    batches = loader((X, Y), 8, shuffle=True, name="train")
    torch.manual_seed(3)
    found = [tuple(part.clone() for part in batch) for batch in batches]
    torch.manual_seed(3)
    same = DataLoader(TensorDataset(X, Y), batch_size=None, sampler=BatchSampler(RandomSampler(X), 8, drop_last=False))
    assert len(batches) == len(found) == 8
    for ours, theirs in zip(found, same, strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert all(isinstance(rows, torch.Tensor) for rows in batches.sampler)
