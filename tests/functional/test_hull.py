"""Soft ranks where nothing may be copied to the host: the blocks, values and gradients of the exact ones on the CPU."""

import numpy as np
import pytest
import torch

import metricgrad as mg
from metricgrad.functional import hull
from metricgrad.functional.hull import log_ratio_corners, mean_corners
from metricgrad.functional.isotonic import log_ratio_starts, mean_starts
from metricgrad.functional.permutahedron import on_device
from metricgrad.functional.ranks import soft_rank


def _rows(kind, n, seed=0):
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"normal": x, "ties": (2 * x).round() / 2, "skewed": (2 * x).exp(), "sorted": x.sort().values}[kind]


def _same_starts(corners, starts, n):
    assert np.array_equal(corners.flatten().nonzero().squeeze(-1).numpy(), starts), n


@pytest.mark.parametrize("kind", ["normal", "skewed", "sorted"])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_blocks_are_those_of_merging_neighbours(kind, n, monkeypatch):
    monkeypatch.setattr(hull, "_PAIRS", 1000)  # so that places are told in several parts
    values = _rows(kind, n)
    _same_starts(mean_corners(values), mean_starts(values.flatten().numpy(), n), n)
    upper, lower = values.sort().values, torch.arange(1.0, n + 1, dtype=torch.float64)
    _same_starts(
        log_ratio_corners(upper, lower),
        log_ratio_starts(upper.flatten().numpy(), lower.numpy().repeat(3).reshape(n, 3).T.ravel(), n),
        n,
    )


@pytest.mark.parametrize("regularisation", ["quadratic", "entropic"])
@pytest.mark.parametrize("strength", [0.01, 0.37, 1.03, 9.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "skewed"])
@pytest.mark.parametrize("n", [1, 2, 9, 60])
def test_ranks_and_gradients_are_those_of_the_cpu(kind, n, strength, regularisation):
    x = _rows(kind, n).requires_grad_()
    found = []
    for ranks in (soft_rank(x, strength, regularisation), on_device(x, strength, regularisation == "quadratic")):
        pull = torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view_as(x)
        (slope,) = torch.autograd.grad((ranks * pull).sum(), x, create_graph=True)
        (curve,) = torch.autograd.grad((slope * pull.flip(0)).sum(), x)
        found.append((ranks, slope, curve))
    for theirs, ours in zip(*found, strict=True):
        near = 1e-12 * max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=near)


def test_far_apart_scores_take_no_precision_from_the_rest():
    x = torch.tensor([0.0, 1e-3, 3e-3, 1e12], dtype=torch.float64)
    torch.testing.assert_close(on_device(x, 1e-6, True), soft_rank(x, 1e-6), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(worst):
    with pytest.raises(mg.MetricgradError, match="not finite"):
        on_device(torch.tensor([1.0, worst]), 1.0, True)
