"""The regression behind the bandit against the textbook, and what it credits to a knob."""

import torch

from metricgrad.aligners.knobs.bandit import Bandit, posterior
from metricgrad.aligners.knobs.state import Child
from metricgrad.losses.base import Knob


def _rows(n=60, knobs=2):
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(n, 2 + knobs, generator=g, dtype=torch.float64)
    return rows, g


def test_the_posterior_is_ridge_regression_on_standardised_columns():
    rows, g = _rows()
    gains = rows @ torch.tensor([0.5, -0.2, 1.0, 0.0], dtype=torch.float64)
    gains = gains + 0.1 * torch.randn(60, generator=g, dtype=torch.float64)
    mean, root = posterior(rows, gains, torch.zeros(60, dtype=torch.float64))
    x = (rows - rows.mean(0)) / rows.std(0, correction=0)
    y = (gains - gains.mean()) / gains.std(correction=0)
    penalty = torch.tensor([0.1, 0.1, 1.0, 1.0], dtype=torch.float64).diag()
    stacked = torch.cat([x, penalty]), torch.cat([y, torch.zeros(4, dtype=torch.float64)])
    expected = torch.linalg.lstsq(stacked[0], stacked[1][:, None]).solution[:, 0]
    torch.testing.assert_close(mean, expected)
    rest = y - x @ expected
    variance = (rest @ rest + 1) / 61
    torch.testing.assert_close(root @ root.T, torch.linalg.inv(x.T @ x + penalty @ penalty) * variance)


def test_what_was_seen_lately_counts_more():
    """The knob helped long ago and harms now."""
    rows, _ = _rows(80, 1)
    sign = torch.where(torch.arange(80) < 40, 1.0, -1.0).double()
    ages = torch.arange(79, -1, -1, dtype=torch.float64)
    assert posterior(rows, sign * rows[:, 2], ages)[0][2] < -0.2
    assert abs(posterior(rows, sign * rows[:, 2], torch.zeros(80).double())[0][2]) < 0.3


def test_progress_is_credited_to_no_knob():
    """A run that improves less and less, with a knob that went up all the while and does nothing else."""
    progress = torch.linspace(0, 1, 40, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    knob = progress + 0.3 * torch.randn(40, generator=g, dtype=torch.float64)
    rows = torch.stack([torch.randn(40, generator=g).double(), progress, knob], 1)
    mean, root = posterior(rows, -progress, torch.zeros(40, dtype=torch.float64))
    assert abs(mean[2]) < 2 * root[2].norm() + 0.05
    assert mean[1] < -0.8


def test_it_moves_the_knob_that_helps_and_explores_the_other():
    bandit, child = Bandit(), Child()
    child.memory["metric"] = torch.zeros(1, dtype=torch.float64)
    values = torch.zeros(2)
    knobs = [Knob(values[0], -1.0, 1.0), Knob(values[1], -1.0, 1.0)]
    g = torch.Generator().manual_seed(0)
    for period in range(30):
        values.copy_(torch.rand(2, generator=g) * 2 - 1)
        bandit.wait(child, knobs, period / 30)
        bandit.store(child, float(values[0]) + 0.1 * float(torch.randn((), generator=g)), period)
    actions = torch.stack([choice.actions for choice in bandit.choose([knobs] * 50, g)]).float() - 1
    assert actions[:, 0].mean() > 0.95
    assert abs(actions[:, 1].mean()) < 0.95
    (choice,) = bandit.choose([knobs], g)
    assert 0 < choice.entropy < 0.7


def test_the_first_moves_are_those_of_a_random_walk():
    values = torch.zeros(300)
    knobs = [Knob(v, -1.0, 1.0) for v in values]
    (choice,) = Bandit().choose([knobs], torch.Generator().manual_seed(0))
    assert sorted(choice.actions.unique().tolist()) == [0, 1, 2]
    assert abs(float(choice.actions.float().mean()) - 1) < 0.15
