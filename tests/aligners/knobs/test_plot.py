"""The history has both sides of the generalisation gap, and one picture shows it with the mismatch."""

import math

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.knobs.plot import mismatch, running
from metricgrad.aligners.knobs.train_batch_buffer import TrainBatchBuffer
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.training.population.fit_population import fit_population
from tests.training.test_fit import problem

ACCURACY = mg.as_metric("accuracy")


def _history(loss, values, **more):
    return {"loss": loss, "metric": values, **more}


def _overfitted(loss, steps=60):
    """Labels that follow from nothing: training rows can be learned, validation rows cannot."""
    g = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(60, 20, generator=g), torch.randint(3, (60,), generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss.attach(model, optimizer, valid=[(inputs[30:], targets[30:])])
    called = []
    for _ in range(steps):
        optimizer.zero_grad()
        scores = model(inputs[:30])
        value = loss(scores, targets[:30])
        called.append((scores.detach(), float(value.detach())))
        value.backward()
        optimizer.step()
    return called, targets[:30]


def test_the_training_side_is_measured_on_what_the_loss_was_called_with():
    loss = mg.ALA("accuracy", num_outputs=3, every=5, warm_up=2)
    called, targets = _overfitted(loss)
    history = loss.aligner.history
    assert len(history["train_metric"]) == 12
    for period in range(12):
        scores, values = zip(*called[5 * period : 5 * period + 5], strict=True)
        expected = float(ACCURACY(torch.cat(scores)[-30:], targets.repeat(5)[-30:]))  # a look has 30 rows
        assert history["train_metric"][period] == pytest.approx(expected)
        assert history["train_loss"][period] == pytest.approx(sum(values) / 5, rel=1e-5)
    assert history["train_metric"][-1] == 1
    assert history["metric"][-1] < 0.7


def test_a_population_notes_it_too():
    loss = mg.ALA("accuracy", None, None, every=3)
    for stacked in (True, False):
        found = fit_population(
            lambda: nn.Linear(6, 3), *problem(), metric="accuracy", loss=loss, children=2, epochs=2, batch_size=20,
            lr=0.05, stacked=stacked,
        )  # fmt: skip
        for history in found.histories:
            assert history["train_metric"][-1] > 0.5
            assert not any(map(math.isnan, history["train_loss"]))


def test_without_training_there_is_no_training_side_and_none_of_what_is_masked():
    loss = mg.ALA("accuracy", num_outputs=3, every=5)
    loss.observe(torch.randn(8, 3), torch.arange(8) % 3)
    assert math.isnan(loss.aligner.history["train_metric"][0])
    masked, kept = mg.ALA("accuracy", num_outputs=3, every=5), torch.arange(8) > 2
    masked(torch.randn(8, 3, requires_grad=True), torch.arange(8) % 3, mask=kept)
    (batch,) = masked.aligner.child.train_batches.batches
    assert torch.equal(batch[1], (torch.arange(8) % 3)[kept])


def test_a_metric_that_cannot_read_a_training_batch_does_not_end_the_training():
    def picky(scores, targets):
        if len(targets.unique()) < 2:
            raise ValueError("one class only")
        return scores.sum() * 0

    recent = TrainBatchBuffer()
    recent.add(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), torch.tensor(2.0))
    value, loss = recent.measure(mg.as_metric(picky, higher_is_better=True, reads="scores"), 4, best=True)
    assert math.isnan(value)
    assert loss == 2
    assert recent.batches == []


def test_only_the_last_rows_are_kept():
    recent = TrainBatchBuffer()
    for n in range(100):
        recent.add(torch.full((100, 2), float(n)), torch.zeros(100, dtype=torch.long), torch.tensor(float(n)))
    assert sum(len(scores) for scores, _ in recent.batches) == 1100
    recent.add(torch.zeros(3, 5), torch.zeros(3, dtype=torch.long), torch.tensor(0.0))  # of another width
    assert [len(scores) for scores, _ in recent.batches] == [3]
    recent.add(torch.zeros(2**20, 5), torch.zeros(2**20, dtype=torch.long), torch.tensor(0.0))
    assert [len(scores) for scores, _ in recent.batches] == [2**20]


@pytest.mark.parametrize(
    ("losses", "values", "expected"),
    [
        ([3.0, 2.0, 1.0], [0.1, 0.2, 0.3], 0.0),
        ([3.0, 2.0, 1.0], [0.3, 0.2, 0.1], 1.0),
        ([3.0, 2.0, 1.0, 0.5], [0.1, 0.2, 0.2, 0.1], 0.5),
    ],
)
def test_the_mismatch_is_how_often_loss_and_metric_disagree(losses, values, expected):
    assert mismatch(_history(losses, values), ACCURACY) == expected
    falling = mg.as_metric(lambda s, t: s.sum(), higher_is_better=False, reads="scores", name="falling")
    assert mismatch(_history(losses, [-v for v in values]), falling) == expected


def test_where_nothing_moves_the_mismatch_says_nothing():
    assert math.isnan(mismatch(_history([1.0, 1.0], [0.1, 0.2]), ACCURACY))
    assert running([math.nan, 1.0, math.nan, 0.0])[2] == 1


@pytest.mark.parametrize("form", [lambda: None, lambda: CorrelationMatrix(3)])
def test_one_picture(tmp_path, form):
    loss = mg.ALA("accuracy", form(), 3, every=5, warm_up=1)
    with pytest.raises(mg.MetricgradError, match="nothing to plot"):
        loss.aligner.plot(tmp_path / "none.png")
    _overfitted(loss)
    path = loss.aligner.plot(tmp_path / "policy.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 20_000
