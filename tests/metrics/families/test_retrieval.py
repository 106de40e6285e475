"""Metrics of ranked lists against scikit-learn and torchmetrics, by group, by row and as one list."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional.retrieval as tr
from hypothesis import given, settings

import metricgrad as mg
from tests.metrics.tester import agrees, batches


def ndcg(y, s, k=None):
    # scikit-learn refuses lists of one; their value is 1 where anything is relevant
    return float(y.sum() > 0) if len(y) == 1 else sk.ndcg_score(y[None], s[None], k=k)


def average_precision(y, s):
    return sk.average_precision_score(y > 0, s) if (y > 0).any() else 0.0


def of_torchmetrics(fn, **fixed):
    def oracle(y, s):
        """Ranks in (0, 1), the relevant last among equals: torchmetrics leaves ties to the order of the data."""
        order = np.lexsort((-(y > 0).astype(int), s))
        ranks = np.empty(len(s))
        ranks[order] = np.arange(1, len(s) + 1) / (len(s) + 1)
        return fn(torch.tensor(ranks), torch.tensor(y > 0), **fixed)

    return oracle


TABLE = {
    "ndcg": ndcg,
    "ndcg:k=3": lambda y, s: ndcg(y, s, 3),
    "map": average_precision,
    "mrr": of_torchmetrics(tr.retrieval_reciprocal_rank),
    "hit_rate:k=2": of_torchmetrics(tr.retrieval_hit_rate, top_k=2),
    "precision_at_k:k=3": of_torchmetrics(tr.retrieval_precision, top_k=3),
    "recall_at_k:k=3": of_torchmetrics(tr.retrieval_recall, top_k=3),
}


def by_group(oracle):
    return lambda y, s, groups: np.mean([oracle(y[groups == g], s[groups == g]) for g in np.unique(groups)])


def by_row(oracle):
    def mean(y, s):
        y = np.eye(s.shape[1], dtype=int)[y] if y.ndim == 1 else y
        return np.mean([oracle(*pair) for pair in zip(y, s, strict=True)])

    return mean


@pytest.mark.parametrize("spec", TABLE)
@settings(max_examples=20, deadline=None)
@given(batch=batches("graded"))
def test_one_list_and_groups(spec, batch):
    agrees(spec, TABLE[spec], batch)
    agrees(spec, by_group(TABLE[spec]), batch, groups=batch.groups)


@pytest.mark.parametrize("spec", TABLE)
@pytest.mark.parametrize("kind", ["lists", "multiclass"])
@settings(max_examples=12, deadline=None)
@given(batch=batches("lists"), other=batches("multiclass"))
def test_rows(spec, kind, batch, other):
    agrees(spec, by_row(TABLE[spec]), batch if kind == "lists" else other)


def test_padded_lists_with_a_mask_are_lists_without_the_padding():
    scores, targets = torch.randn(4, 6), torch.randint(0, 3, (4, 6))
    mask = torch.arange(6) < torch.tensor([3, 6, 2, 5])[:, None]
    for spec in TABLE:
        metric = mg.as_metric(spec)
        alone = [metric(scores[i, :n], targets[i, :n]) for i, n in enumerate([3, 6, 2, 5])]
        assert metric(scores, targets, mask=mask) == pytest.approx(float(torch.stack(alone).mean()))


def test_a_model_that_scores_everything_alike_earns_nothing_from_the_order_of_the_data():
    targets = torch.tensor([1, 1, 0, 0, 0, 0])
    for spec in ("precision_at_k:k=2", "recall_at_k:k=2", "hit_rate:k=2"):
        assert mg.as_metric(spec)(torch.zeros(6), targets) == 0
    assert mg.as_metric("mrr")(torch.zeros(6), targets) == pytest.approx(1 / 5)


def test_exponential_gains_are_linear_gains_of_two_to_the_target():
    scores, targets = torch.randn(20), torch.randint(0, 4, (20,))
    expected = sk.ndcg_score((2.0**targets - 1)[None].numpy(), scores[None].numpy())
    assert mg.as_metric("ndcg:exponential=True")(scores, targets) == pytest.approx(expected)


def test_bad_input_is_refused():
    with pytest.raises(mg.MetricgradError, match="whole number"):
        mg.as_metric("mrr") and mg.as_metric("recall_at_k:k=0")(torch.randn(3), torch.ones(3))
    with pytest.raises(mg.MetricgradError, match="leave groups out"):
        mg.as_metric("mrr")(torch.randn(3, 2), torch.ones(3, 2), groups=torch.arange(3))
    with pytest.raises(mg.MetricgradError, match="integer query"):
        mg.as_metric("mrr")(torch.randn(3), torch.ones(3), groups=torch.rand(3))
    with pytest.raises(mg.MetricgradError, match="0 upwards"):
        mg.as_metric("ndcg")(torch.randn(3), torch.tensor([-1, 0, 2]))
