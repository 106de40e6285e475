"""Metrics of counts equal the metrics they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metricgrad as mg
from metricgrad.metrics.fast_paths import OfCounts

NAMES = ["average_precision", "auroc", "recall_at_precision:precision=0.6", "precision_at_k:k=4", "recall_at_k:k=7"]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), positives=st.integers(1, 12), negatives=st.integers(1, 30))
def test_equals_the_metric_of_scores(name, seed, positives, negatives):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randperm(positives + negatives, generator=generator).double()
    targets = torch.cat([torch.ones(positives), torch.zeros(negatives)]).long()
    above = (scores[targets == 0][None] > scores[targets == 1][:, None]).sum(1).sort().values
    metric = mg.as_metric(name)
    assert isinstance(metric.fast_path, OfCounts)
    found = metric.fast_path.fn(above[None], negatives, **metric.fixed)
    torch.testing.assert_close(found[0], metric(scores / 10, targets), rtol=1e-6, atol=1e-9)
