"""Metrics of counts equal the metrics they stand for, of scores that tie too, and after every move of one positive."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metricgrad as mg
from metricgrad.metrics.of_counts import OfCounts

NAMES = [
    "average_precision", "auroc", "recall_at_precision:precision=0.6", "precision_at_k:k=4", "recall_at_k:k=7", "mrr",
    "hit_rate:k=3", "map", "ndcg", "ndcg:k=5,exponential=True",
]  # fmt: skip
LISTS = {"seed": st.integers(0, 10_000), "positives": st.integers(1, 12), "negatives": st.integers(1, 30)}


def _path(name):
    metric = mg.as_metric(name)
    assert isinstance(metric.fast_path, OfCounts)
    return metric, metric.fast_path


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=30)
@given(distinct=st.integers(1, 60), **LISTS)
def test_equals_the_metric_of_scores_that_may_tie(name, distinct, seed, positives, negatives):
    metric, path = _path(name)
    scores = torch.randint(distinct, (positives + negatives,), generator=torch.Generator().manual_seed(seed)).double()
    targets = (torch.arange(len(scores)) < positives).long()
    up, down = (-scores[:positives]).sort().values, (-scores[positives:]).sort().values
    found = path.of_scores(up, down, **metric.fixed)
    torch.testing.assert_close(found, metric(scores / 10, targets), rtol=1e-9, atol=1e-12)
    ideal = path.ideal(positives, negatives, **metric.fixed)
    assert ideal == pytest.approx(float(metric(targets - 0.5, targets)), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=30)
@given(halves=st.booleans(), **LISTS)
def test_slopes_are_secants_of_the_whole_list(name, halves, seed, positives, negatives):
    metric, path = _path(name)
    g = torch.Generator().manual_seed(seed)
    above = torch.randint(negatives + 1, (positives,), generator=g).sort().values.double()
    reach = torch.randint(1, negatives + 1, (positives,), generator=g).double()
    if halves:
        above, reach = above - above % 2 / 2, reach + 0.3
    moved = torch.stack([above - reach, above + reach]).clamp(0, negatives)
    whole = above.expand(2, positives, positives).clone()
    whole.diagonal(dim1=1, dim2=2).copy_(moved)
    after = path.values(whole.reshape(-1, positives).sort(1).values, negatives, **metric.fixed).reshape(2, positives)
    expected = (after[0] - after[1]) / (moved[1] - moved[0]).clamp(min=1)
    found = path.slopes(above, reach, positives, negatives, **metric.fixed)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
