"""Peak: comparisons, score sets and local moves of heat maps."""

import pytest
import torch

import metricgrad as mg
from metricgrad.refactoring.peak import Peak


@pytest.fixture(name="maps")
def _maps():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(12, 7, 8, generator=g, dtype=torch.float64)
    points = torch.rand(12, 2, generator=g, dtype=torch.float64) * torch.tensor([7.0, 6.0])
    return scores, points, 2 + 4 * torch.rand(12, generator=g, dtype=torch.float64)


def _right(scores, points, sizes):
    return torch.stack(
        [
            mg.as_metric("pck")(s[None], p[None], head_sizes=h[None])
            for s, p, h in zip(scores, points, sizes, strict=True)
        ]
    )


def test_all_comparisons_of_a_map_hold_exactly_when_it_is_right(maps):
    scores, points, sizes = maps
    right = _right(scores, points, sizes)
    for i in range(len(scores)):
        one = Peak(head_sizes=sizes[i : i + 1])
        assert bool(one.binaries(scores[i : i + 1], points[i : i + 1]).all()) == bool(right[i])
    assert 0 < right.mean() < 1


def test_ideal_score_sets_are_best_and_their_negatives_worst(maps):
    scores, points, sizes = maps
    peak = Peak(head_sizes=sizes)
    ideal = peak.ideal(scores, points, 6, torch.Generator().manual_seed(0))
    metric = mg.as_metric("pck")
    assert (metric.over(ideal, points, head_sizes=sizes) == 1).all()
    assert (metric.over(-ideal, points, head_sizes=sizes) == 0).all()
    assert len({tuple(s.flatten(1).argmax(1).tolist()) for s in ideal}) > 1
    changed = peak.perturbed(ideal, points, 3, torch.Generator().manual_seed(0))
    differs = (changed != ideal).flatten(2).any(2).sum(1)
    assert (differs <= 3).all()
    assert (differs > 0).all()


def test_scores_realise_the_binaries(maps):
    scores, points, sizes = maps
    peak = Peak(head_sizes=sizes)
    bits = torch.rand(len(peak.binaries(scores, points)), generator=torch.Generator().manual_seed(3)) < 0.97
    for wanted in (bits, ~bits, torch.ones_like(bits)):
        assert torch.equal(peak.binaries(peak.scores_from(wanted, scores, points), points), wanted)


@pytest.mark.parametrize("exchangeable", ["all", "none"])
def test_local_moves_expect_the_exact_mean_of_pck(maps, exchangeable):
    scores, points, sizes = maps
    scores.requires_grad_()
    peak = Peak(head_sizes=sizes, exchangeable=exchangeable)
    loss = mg.UniLoss("pck", refactoring=peak, softness=0.7, q=1.0, calls=64)
    value = loss(scores, points, head_sizes=sizes)
    y, x = torch.meshgrid(torch.arange(7), torch.arange(8), indexing="ij")
    near = torch.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None]) <= 0.5 * sizes[:, None, None]
    expected = 1 - ((scores.flatten(1) / 0.7).softmax(1) * near.flatten(1)).sum(1).mean()
    torch.testing.assert_close(value, expected)
    (found,) = torch.autograd.grad(value, scores)
    (wanted,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(found, wanted)


def test_a_map_that_cannot_be_right_or_wrong_has_no_gradient():
    scores = torch.randn(3, 4, 4, requires_grad=True)
    points = torch.tensor([[50.0, 50.0], [1.0, 1.0], [1.0, 1.0]])
    loss = mg.UniLoss("pck")
    value = loss(scores, points, head_sizes=torch.tensor([2.0, 2.0, 100.0]))
    value.backward()
    assert torch.isfinite(value)
    assert (scores.grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True, False]


def test_the_registry_knows_it(maps):
    scores, points, sizes = maps
    found = mg.infer_refactoring(mg.as_metric("pck:radius=0.4"), scores, points, head_sizes=sizes)
    assert isinstance(found, Peak)
    assert found.radius == 0.4
    assert torch.equal(found.head_sizes, sizes)


def _blobs(n, seed):
    """Pictures with a small and a large blob, in noise; where they are."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, 2, generator=g) * 15
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    square = (x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2
    images = (-square / torch.tensor([2.0, 8.0])[None, :, None, None]).exp().sum(1, keepdim=True)
    return images + 0.1 * torch.randn(n, 1, 16, 16, generator=g), points


def test_uniloss_trains_a_heat_map_model():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d
    model = torch.nn.Sequential(conv(1, 8, 5, padding=2), torch.nn.ReLU(), conv(8, 8, 5, padding=2), torch.nn.ReLU(),
                                conv(8, 2, 1))  # fmt: skip
    images, points = _blobs(192, 0)
    unseen, truth = _blobs(192, 1)
    loss, optimizer = mg.UniLoss("pck"), torch.optim.Adam(model.parameters(), 0.01)
    pck = mg.as_metric("pck")
    before = float(pck(model(unseen), truth))
    for _ in range(5):
        for i in range(0, len(images), 24):
            optimizer.zero_grad()
            loss(model(images[i : i + 24]), points[i : i + 24]).backward()
            optimizer.step()
    assert before < 0.4
    assert float(pck(model(unseen), truth)) > 0.9
