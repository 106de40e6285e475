"""record_scores: when it records, what it leaves alone, and that a loss fitted to it comes from all moments."""

import pytest
import torch

import metricgrad as mg


def _loop(steps, record=True, **options):
    torch.manual_seed(0)
    x = torch.randn(96, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    recorder = mg.record_scores(model, optimizer, [(x[:20], y[:20]), (x[20:40], y[20:40])], **options)

    def train():
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[40:]), y[40:]).backward()
            optimizer.step()

    if record:
        with recorder:
            train()
    else:
        train()
    return model, recorder


def test_it_records_first_moments_as_often_as_last_ones():
    model, recorded = _loop(11)
    assert recorded.steps == [0, 1, 2, 4, 8, 11]
    assert recorded.scores.shape == (6 * 40, 2)
    assert recorded.moments.tolist() == [step for step in recorded.steps for _ in range(40)]
    assert torch.equal(recorded.targets[:40], recorded.targets[-40:])
    accuracy = mg.as_metric("accuracy")
    early, late = (accuracy(recorded.scores[part], recorded.targets[part]) for part in (slice(0, 40), slice(-40, None)))
    assert late > early
    assert model.training


def test_every_so_many_steps():
    assert _loop(5, every=2)[1].steps == [0, 2, 4, 5]
    with pytest.raises(mg.MetricgradError, match="every is 0"):
        _loop(1, every=0)


def test_the_training_is_the_one_it_would_have_been():
    recorded, plain = (_loop(6, record)[0].state_dict() for record in (True, False))
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)


def test_nothing_recorded_says_so():
    with pytest.raises(mg.MetricgradError, match="nothing was recorded"):
        _ = _loop(1, record=False)[1].scores
