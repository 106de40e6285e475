"""The learned loss of lists, and how learned forms read groups."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.peaks import PeakNetwork
from metricgrad.losses.networks.sets import SetNetwork


def _lists(seed=0):
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(6, (40,), generator=generator) * 10
    return torch.randn(40, generator=generator).double(), torch.randint(4, (40,), generator=generator), groups


@pytest.mark.parametrize("form", [ListNetwork(), SetNetwork()])
def test_the_value_is_the_mean_over_the_groups_each_for_itself(form):
    scores, targets, groups = _lists()
    targets = targets if isinstance(form, ListNetwork) else (targets > 2).long()
    loss = mg.Loss(form)
    form.anchor.fill_(0.5)
    each = [loss(scores[groups == g], targets[groups == g]) for g in groups.unique()]
    found = loss(scores, targets, groups=groups)
    torch.testing.assert_close(found, torch.stack(each).mean())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(scores[order], targets[order], groups=groups[order]), found)
    assert abs(float(loss(scores, targets)) - float(found)) > 1e-3


def test_a_mask_leaves_items_out_of_their_lists():
    scores, targets, groups = _lists()
    loss, mask = mg.Loss(ListNetwork()), torch.arange(40) % 3 > 0
    expected = loss(scores[mask], targets[mask], groups=groups[mask])
    torch.testing.assert_close(loss(scores, targets, groups=groups, mask=mask), expected)


def test_a_list_shifted_as_a_whole_costs_the_same_and_one_out_of_order_costs_more():
    loss, gains = mg.Loss(ListNetwork()), torch.tensor([3, 1, 0, 0, 2])
    scores = gains.double()
    values = [float(loss(s, gains)) for s in (scores, scores[[1, 0, 2, 3, 4]], -scores)]
    assert values == sorted(values)
    assert values[0] < values[1] < values[2]
    torch.testing.assert_close(loss(scores + 5, gains), loss(scores, gains))


def test_items_of_larger_gain_are_pushed_up():
    scores, targets, groups = _lists()
    scores.requires_grad_()
    gains = (targets > 2).long()
    (slope,) = torch.autograd.grad(mg.Loss(ListNetwork())(scores, gains, groups=groups), scores)
    wrong = torch.where(gains > 0, slope, -slope).clamp(min=0)
    assert float(wrong.sum()) < 0.05 * float(slope.abs().sum())


def test_its_standard_loss_is_the_mean_of_pairs_of_unequal_gain():
    scores, gains = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([1.0, 2.0, 1.0])
    expected = torch.nn.functional.softplus(torch.tensor([2.0, 1.5])).mean()
    torch.testing.assert_close(ListNetwork().standard_loss(scores, gains), expected)


def test_it_can_be_differentiated_twice():
    form, (scores, targets, _) = ListNetwork(), _lists()
    scores = scores[:6].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda s: form.over(s[None], targets[None, :6].double()), (scores,), atol=1e-4)


def test_what_is_no_list_is_refused():
    scores, targets, groups = _lists()
    with pytest.raises(mg.MetricgradError, match="gains"):
        mg.Loss(ListNetwork())(scores, targets - 2)
    with pytest.raises(mg.MetricgradError, match="is a query by itself"):
        mg.Loss(SetNetwork())(torch.randn(40, 4), targets, groups=groups)
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        mg.Loss(PeakNetwork())(torch.randn(40, 3, 3), torch.zeros(40, 2), groups=groups)
    with pytest.raises(mg.MetricgradError, match="takes no 'sample_weight'"):
        mg.Loss(ListNetwork())(scores, targets, groups=groups, sample_weight=scores)
