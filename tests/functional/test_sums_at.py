"""Sums by place, whose last digits float32 keeps."""

import pytest
import torch

import metricgrad as mg
from metricgrad.functional import sums_at as module
from metricgrad.functional.sums_at import sums_at
from metricgrad.precision import WITHOUT_FLOAT64


def test_more_ones_than_float32_counts_to_are_all_counted():
    n = 2**24 + 2**20
    found = sums_at(torch.zeros(1, 1, dtype=torch.long).expand(1, n), torch.ones(1, 1), torch.zeros(1, 2))
    assert found.tolist() == [[n, 0]]


def test_they_are_those_of_float64_with_their_gradient(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    g = torch.Generator().manual_seed(0)
    index, values = torch.randint(5, (3, 100), generator=g), torch.rand(100, generator=g)
    start, weight = torch.rand(3, 5, generator=g), torch.rand(3, 5, generator=g)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = values.to(dtype).requires_grad_()
        sums = sums_at(index, leaf, start.to(dtype))
        found.append((sums.detach(), *torch.autograd.grad((sums * weight).sum(), leaf)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("metric", ["dice", "mean_iou", "f1"])
def test_weighted_pixels_lose_no_digits_without_float64(metric, monkeypatch):
    g = torch.Generator().manual_seed(0)
    scores, targets, weight = (
        torch.randn(2**21, generator=g),
        torch.rand(2**21, generator=g),
        torch.rand(2**21, generator=g),
    )
    targets = (targets < 0.9).long()
    exact = mg.as_metric(metric)(scores + targets, targets, sample_weight=weight)
    monkeypatch.setattr("metricgrad.precision.WITHOUT_FLOAT64", {*WITHOUT_FLOAT64, "cpu"})
    found = mg.as_metric(metric)(scores + targets, targets, sample_weight=weight)
    assert abs(float(found) / float(exact) - 1) < 3e-7
