"""What a loss of rankings says once of batches whose rows have one relevant item."""

import copy
import pickle
import warnings

import pytest
import torch

import metricgrad as mg

ONE_EACH = "each row has one relevant item: pass its number"


def _called(loss, targets):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss(torch.randn(targets.shape).requires_grad_(), targets).backward()
    return [str(one.message) for one in caught if ONE_EACH in str(one.message)]


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
