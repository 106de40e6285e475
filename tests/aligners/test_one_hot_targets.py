"""What a loss says once of batches whose rows have one 1 among zeros."""

import copy
import pickle
import warnings

import pytest
import torch

import metricgrad as mg

ONE_EACH = "each row has one relevant item: pass its number"
ONE_HOT = "each row of targets has one 1 among zeros, and such rows are read as one yes or no for each column"


def _called(loss, targets, said=ONE_EACH):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss(torch.randn(targets.shape).requires_grad_(), targets).backward()
    return [str(one.message) for one in caught if said in str(one.message)]


@pytest.mark.parametrize("metric", ["mrr", "ndcg", "recall_at_k:k=2"])
def test_it_is_said_once_and_copies_know_it(metric):
    loss = mg.UniLoss(metric)
    told = copy.deepcopy(loss)
    assert len(_called(loss, torch.eye(16))) == 1
    assert not _called(loss, torch.eye(16))
    assert not _called(pickle.loads(pickle.dumps(loss)), torch.eye(16))
    assert len(_called(told, torch.eye(16))) == 1


@pytest.mark.parametrize(
    ("metric", "targets"),
    [
        ("mrr", torch.eye(4)),
        ("mrr", torch.eye(16) + torch.eye(16).roll(1, 0)),
        ("average_precision", torch.eye(16)),
        ("f1", torch.eye(16)),
        ("mrr", torch.zeros(16).index_fill(0, torch.tensor(3), 1.0)),
    ],
)
def test_of_few_rows_more_items_columns_and_one_list_nothing_is_said(metric, targets):
    assert not _called(mg.UniLoss(metric), targets)


@pytest.mark.parametrize("make", [lambda: mg.UniLoss("macro_f1"), lambda: mg.ALA("accuracy", num_outputs=None)])
def test_classes_that_come_as_zeros_and_ones_are_told_once(make):
    loss, targets = make(), torch.eye(4)[torch.arange(12) % 4]
    assert len(_called(loss, targets, ONE_HOT)) == 1
    assert not _called(loss, targets, ONE_HOT)
    assert not _called(make(), targets.roll(1, 1) + targets, ONE_HOT)
    assert not _called(make(), targets[:, :1], ONE_HOT)


@pytest.mark.parametrize("metric", ["mse", "mrr"])
def test_values_and_rankings_are_no_classes(metric):
    assert not _called(mg.UniLoss(metric), torch.eye(16), ONE_HOT)


@pytest.mark.parametrize("metric", ["macro_f1", "mrr"])
def test_of_rows_whose_entries_are_masked_nothing_is_said(metric):
    targets = torch.eye(4)[torch.arange(12) % 4]
    mask = (targets == 1) | (torch.arange(4) < 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.UniLoss(metric)(torch.randn(targets.shape).requires_grad_(), targets, mask=mask)
