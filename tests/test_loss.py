"""The grid: what a loss refuses, saves, steps and attaches."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.static import Static
from metricgrad.losses.composite.hand_made import HandMade


class _Refusing(Static):
    def refusal(self, form):
        return "this one refuses everything"


def test_a_cell_that_means_nothing_raises_with_the_reason():
    form = mg.UniLoss("f1").form
    with pytest.raises(mg.MetricgradError, match="refuses everything"):
        mg.Loss(form, _Refusing())


def test_a_plain_module_is_told_how_to_become_a_form():
    with pytest.raises(mg.MetricgradError, match="HandMade"):
        mg.Loss(nn.CrossEntropyLoss())


def test_a_hand_made_loss_stands_on_the_grid():
    scores, targets = torch.randn(8, 3), torch.arange(8) % 3
    loss = mg.Loss(HandMade(nn.CrossEntropyLoss()))
    assert torch.equal(loss(scores, targets), nn.functional.cross_entropy(scores, targets))


def test_step_is_exactly_one_optimiser_step():
    torch.manual_seed(0)
    inputs, targets = torch.randn(32, 4), torch.arange(32) % 3
    by_hand, by_step = nn.Linear(4, 3), nn.Linear(4, 3)
    by_step.load_state_dict(by_hand.state_dict())
    first, second = mg.UniLoss("accuracy"), mg.UniLoss("accuracy")
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.5, momentum=0.9)
    other = torch.optim.SGD(by_step.parameters(), lr=0.5, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        first(by_hand(inputs), targets).backward()
        optimizer.step()
        second.step(by_step, other, (inputs, targets))
    assert torch.equal(by_hand.weight, by_step.weight)
    assert int(second.steps) == 2


def test_forward_covers_other_batches():
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = {"x": torch.randn(16, 4), "y": torch.arange(16) % 2}
    loss = mg.UniLoss("f1")
    with pytest.raises(mg.MetricgradError, match="forward="):
        loss.step(model, optimizer, batch)
    loss.step(model, optimizer, batch, forward=lambda m, b: (m(b["x"])[:, 0], b["y"]))
    assert int(loss.steps) == 1


def test_attaching_twice_is_an_error():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.UniLoss("accuracy")
    handle = loss.attach(model, optimizer)
    with pytest.raises(mg.MetricgradError, match="detach"):
        loss.attach(model, optimizer)
    handle.detach()
    loss.attach(model, optimizer).detach()


def test_a_foreign_metric_must_be_passed_again(tmp_path):
    def share_right(labels, targets):
        return (labels == targets).float().mean()

    metric = mg.as_metric(share_right, higher_is_better=True, reads="labels")
    loss = mg.UniLoss(metric)
    scores, targets = torch.randn(32, 3), torch.arange(32) % 3
    loss(scores, targets)
    loss.save(tmp_path / "loss.safetensors")
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        mg.load_loss(tmp_path / "loss.safetensors")
    again = mg.load_loss(tmp_path / "loss.safetensors", metric=metric)
    assert torch.equal(again.eval()(scores, targets), loss.eval()(scores, targets))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"nothing of ours")
    with pytest.raises(mg.MetricgradError, match="cannot read"):
        mg.load_loss(tmp_path / "other")


@pytest.mark.parametrize("make", [lambda: mg.UniLoss("map"), lambda: mg.UniLoss("map", anchored=False)])
def test_a_weight_for_each_query_is_one_for_each_of_its_items(make):
    queries, targets = torch.tensor([5, 5, 5, 9, 9, 9]), torch.tensor([1, 0, 1, 0, 1, 0])
    scores, weight = torch.randn(6, generator=torch.Generator().manual_seed(0)), torch.tensor([10.0, 1.0])
    of_queries = make()(scores, targets, groups=queries, sample_weight=weight)
    assert of_queries == make()(scores, targets, groups=queries, sample_weight=weight[(queries == 9).long()])
    assert of_queries != make()(scores, targets, groups=queries)
