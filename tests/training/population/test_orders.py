"""Every child sees every row once an epoch, in an order of its own that the epoch's number decides."""

import pytest
import torch

from metricgrad.training.population.orders import Orders

TARGETS = torch.arange(24) % 4


@pytest.mark.parametrize("per_class", [None, 2])
def test_orders_are_each_childs_own_and_follow_from_the_epoch(per_class):
    all_three = Orders(TARGETS, 3, 8, per_class, seed=5)
    batches = [list(all_three.of(epoch)) for epoch in (0, 1, 0)]
    assert len(all_three) == len(batches[0]) == 3
    first, second, again = (torch.cat(epoch, 1) for epoch in batches)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_shuffled_children_see_every_row_and_balanced_ones_every_class():
    epoch = torch.cat(list(Orders(TARGETS, 2, 7, None, seed=0).of(4)), 1)
    assert torch.equal(epoch.sort(1).values, torch.arange(24).expand(2, 24))
    for batch in Orders(TARGETS, 2, 8, 2, seed=0).of(4):
        assert all(TARGETS[row].bincount().tolist() == [2, 2, 2, 2] for row in batch)
