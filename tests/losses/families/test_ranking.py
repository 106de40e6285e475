"""The family against its equation over all pairs."""

import pytest
import torch
from torch.nn.functional import softplus

from metricgrad.losses.base import CallContext
from metricgrad.losses.baselines.pairwise_logistic import PairwiseLogistic
from metricgrad.losses.families.ranking import RankingFamily


def _batch(n=40):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(n, generator=g, dtype=torch.float64).requires_grad_()
    return scores, (torch.rand(n, generator=g) < 0.3).long()


def _call(form, scores, targets):
    return form(scores, targets, call=CallContext(0, 0))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_it_starts_at_the_pairwise_logistic_loss(weight):
    scores, targets = _batch()
    form = RankingFamily().double()
    form.weight.fill_(weight)
    value, plain = _call(form, scores, targets), PairwiseLogistic()(scores, targets)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (value, plain)))


def test_it_is_its_equation():
    scores, targets = _batch()
    form = RankingFamily().double()
    for name, value in {"weight": 0.3, "exponent": 1.5, "margin": 0.7, "temperature": -0.4}.items():
        form.knobs()[name].parameter.fill_(value)
    s, t = scores[targets > 0], scores[targets == 0]
    pairs = softplus((t[:, None] - s[None] + 0.7) / torch.tensor(-0.4).double().exp())
    h, g = pairs.mean(1), pairs.mean(0)
    expected = 0.7 * h.pow(2.5).mean() ** (1 / 2.5) + 0.3 * g.pow(2.5).mean() ** (1 / 2.5)
    value = _call(form, scores, targets)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (value, expected)))


def test_gradcheck_in_scores_and_knobs():
    scores, targets = _batch(12)
    form = RankingFamily().double()
    form.exponent.fill_(0.8)
    knobs = [k.parameter.requires_grad_() for k in form.knobs().values()]
    assert torch.autograd.gradcheck(lambda s, *_: _call(form, s, targets), (scores, *knobs))


def test_an_exponent_weighs_the_worst():
    """A negative at the top takes a larger share of the gradient."""
    scores = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    targets, shares = torch.tensor([0, 0, 1]), []
    for exponent in (0.0, 3.0):
        form = RankingFamily().double()
        form.exponent.fill_(exponent)
        (slope,) = torch.autograd.grad(_call(form, scores, targets), scores)
        shares.append(float(slope[0] / slope[:2].sum()))
    assert shares[1] > shares[0]


def test_it_is_near_linear():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(200_000, generator=g).requires_grad_()  # 10^10 pairs
    value = _call(RankingFamily(), scores, (torch.rand(200_000, generator=g) < 0.5).long())
    value.backward()
    assert torch.isfinite(scores.grad).all()
