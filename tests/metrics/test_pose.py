"""PCK against a loop over key points; a heat-map model learns from it alone."""

import numpy as np
import pytest
import torch

import metricgrad as mg
from metricgrad.refactoring.peak import Peak


def _loop(scores, targets, width, radius, heads=None):
    hits = []
    for i, row in enumerate(scores):
        best = int(np.argmax(row))
        dy, dx = best // width - targets[i] // width, best % width - targets[i] % width
        hits.append(np.hypot(dy, dx) <= radius * (1 if heads is None else heads[i]))
    return np.mean(hits)


@pytest.mark.parametrize(("width", "radius"), [(6, 0.0), (6, 1.5), (4, 2.0)])
def test_pck_is_the_loop(width, radius):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(50, 24, generator=g), torch.randint(24, (50,), generator=g)
    metric = mg.as_metric(f"pck:width={width},radius={radius}")
    assert float(metric(scores, targets)) == pytest.approx(_loop(scores.numpy(), targets.numpy(), width, radius))
    heads = torch.rand(10, generator=g) * 6
    spread = heads.repeat_interleave(5)
    expected = _loop(scores.numpy(), targets.numpy(), width, radius, spread.numpy())
    assert float(metric(scores, targets, head_sizes=spread)) == pytest.approx(expected)
    images = scores.reshape(10, 5, 24), targets.reshape(10, 5)
    assert float(metric(*images, head_sizes=heads)) == pytest.approx(expected)
    seen = torch.rand(10, 5, generator=g) < 0.7
    kept = seen.flatten()
    masked = _loop(scores[kept].numpy(), targets[kept].numpy(), width, radius, spread[kept].numpy())
    assert float(metric(*images, head_sizes=heads, mask=seen)) == pytest.approx(masked)
    assert torch.isfinite(mg.UniLoss(metric)(*images, head_sizes=heads, mask=seen))


def test_heat_maps_that_are_no_rectangles_are_refused():
    with pytest.raises(mg.MetricgradError, match="give their width"):
        mg.as_metric("pck")(torch.randn(3, 24), torch.tensor([0, 1, 2]))
    with pytest.raises(mg.MetricgradError, match="radius=-1"):
        mg.as_metric("pck:radius=-1")


def test_comparisons_are_near_pixels_against_far_ones():
    peak = Peak(width=3, radius=1.0)
    scores = torch.arange(9.0)[None]
    near = [1, 3, 4, 5, 7]
    assert peak.near(scores, torch.tensor([4]))[0].nonzero()[:, 0].tolist() == near
    expected = [scores[0, i] - scores[0, j] for i in near for j in (0, 2, 6, 8)]
    assert peak.comparisons(scores, torch.tensor([4])).tolist() == expected


def test_scores_from_their_own_binaries_have_the_same_binaries():
    g = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(6, 12, generator=g), torch.randint(12, (6,), generator=g)
    peak = Peak(width=4, radius=1.0)
    bits = peak.binaries(scores, targets)
    assert torch.equal(peak.binaries(peak.scores_from(bits, scores, targets), targets), bits)


def _heat_maps(n, generator):
    """A bright blob in noise; the key point is its centre."""
    targets = torch.randint(64, (n,), generator=generator)
    pixel = torch.arange(64)
    away = (pixel // 8 - targets[:, None] // 8) ** 2 + (pixel % 8 - targets[:, None] % 8) ** 2
    return torch.exp(-away / 2.0) + 0.25 * torch.randn(n, 64, generator=generator), targets


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_a_tiny_heat_map_model_learns_from_pck(interpolation):
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x, y = _heat_maps(600, g)
    model = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)), torch.nn.Conv2d(1, 4, 5, padding=2), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 1, 3, padding=1), torch.nn.Flatten(),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    metric = mg.as_metric("pck:radius=1.0")
    loss = mg.UniLoss(metric, interpolation=interpolation)
    with torch.no_grad():
        before = float(metric(model(x[400:]), y[400:]))
    for step in range(80):
        rows = torch.arange(32) + 32 * (step % 12)
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        after = float(metric(model(x[400:]), y[400:]))
    assert before < 0.6
    assert after > 0.9
