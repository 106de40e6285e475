"""The range of values, of every kind of tensor; inside a call each piece of memory is looked at once."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import metricgrad as mg
from metricgrad.value_range import are_whole, look_at, looked_at_once, ranges_of


class Looks(TorchDispatchMode):
    """How many tensors' ranges are computed inside."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.aminmax.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.long, torch.bool])
def test_lowest_and_highest(dtype):
    values = torch.tensor([[1, 0], [1, 1]]).to(dtype)
    (found,) = ranges_of(values)
    assert (found.low, found.high, found.finite, found.within(0, 1), found.within(1, 1)) == (0, 1, True, True, False)
    assert are_whole(values)


def test_what_is_no_number_or_none():
    nan, inf, none = ranges_of(torch.tensor([0.0, math.nan]), torch.tensor([0.0, math.inf]), torch.zeros(0))
    assert math.isnan(nan.low)
    assert not nan.finite
    assert not nan.within(-1, 1)
    assert (inf.finite, inf.high) == (False, math.inf)
    assert none.within(0, 1)
    assert not are_whole(torch.tensor([1.0, 0.5]))
    assert not are_whole(torch.tensor([1.0, math.inf]))


def test_views_of_one_memory_are_looked_at_once_inside_and_anew_outside():
    values = torch.randn(6, 2)
    with Looks() as looks, looked_at_once():
        assert ranges_of(values) == ranges_of(values.flatten()) == ranges_of(values[None])
        columns = ranges_of(values[:, 0], values[:, 1])
        assert columns == [ranges_of(column.clone())[0] for column in values.T]
    assert looks.count == 5
    values.zero_()
    assert ranges_of(values)[0] == (0, 0)


def test_a_step_looks_at_scores_and_targets_once():
    loss, targets = mg.UniLoss("average_precision"), (torch.arange(40) % 5 == 0).float()
    with Looks() as looks:
        loss(torch.randn(40, requires_grad=True), targets)
    assert looks.count == 2


def test_a_weighted_step_looks_at_weights_with_them_and_leaves_what_is_none_to_others():
    loss, targets = mg.UniLoss("accuracy"), torch.arange(40) % 5
    scores, weight = torch.randn(40, 5, requires_grad=True), torch.rand(40)
    with Looks() as looks:
        loss(scores, targets, sample_weight=weight)
    assert looks.count == 3
    for wrong in (weight * 1j, weight.to("meta"), None):
        look_at(scores, targets, wrong)
    with pytest.raises(mg.MetricgradError, match="sample_weight"):
        loss(scores, targets, sample_weight=weight.to("meta"))
