"""Losses of heat maps: the Gaussian squared error, and ReLoss's network fitted to PCK."""

import functools
import math

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.loss import Loss
from metricgrad.losses.baselines.gaussian_mse import GaussianMSE, gaussian_maps
from metricgrad.losses.baselines.heatmap_cross_entropy import HeatmapCrossEntropy
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.map_reader import of_standardised_maps
from metricgrad.losses.networks.peaks import PeakNetwork


def stored(n=400, seed=0):
    """Maps that peak in the right place more or less often, as a half-trained model's do."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, generator=g) * 9
    off = torch.randn(n, 2, generator=g) * 3 * (torch.rand(n, 1, generator=g) < 0.4)
    maps = gaussian_maps(points + off, 10, 10, 1.0) * (0.2 + 2 * torch.rand(n, 1, 1, generator=g) ** 2)
    return maps + 0.05 * torch.randn(n, 10, 10, generator=g), points


def test_gaussian_maps_and_their_squared_error_by_hand():
    points = torch.tensor([[[2.0, 1.0], [0.5, 0.0]]], dtype=torch.float64)
    maps = gaussian_maps(points, 3, 4, 2.0)
    assert maps.shape == (1, 2, 3, 4)
    assert float(maps[0, 0, 0, 3]) == pytest.approx(math.exp(-2 / 8))
    assert float(maps[0, 1, 2, 0]) == pytest.approx(math.exp(-4.25 / 8))
    scores = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    mask = torch.tensor([[True, False]])
    assert float(GaussianMSE(sigma=2.0)(scores, points, mask=mask)) == pytest.approx(float(maps[0, 0].square().mean()))
    assert float(GaussianMSE()(scores, points, mask=~mask & mask)) == 0


def test_cross_entropy_over_pixels_by_hand():
    points = torch.tensor([[[2.0, 1.0], [0.5, 0.0]]], dtype=torch.float64)
    scores = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_share = scores.flatten(2).log_softmax(2)
    mask = torch.tensor([[True, False]])
    one_pixel = float(HeatmapCrossEntropy(sigma=1e-3)(scores, points, mask=mask))
    assert one_pixel == pytest.approx(-float(log_share[0, 0, 1 * 4 + 2]))
    between = float(HeatmapCrossEntropy(sigma=1e-3)(scores, points, mask=~mask))  # as near to two of them
    assert between == pytest.approx(-float(log_share[0, 1, :2].mean()))
    wide = gaussian_maps(points, 3, 4, 2.0)
    wide = wide / wide.sum((2, 3), keepdim=True)
    weight = torch.tensor([[3.0, 1.0]])
    found = float(HeatmapCrossEntropy(sigma=2.0)(scores, points, sample_weight=weight))
    each = -(wide.flatten(2) * log_share).sum(2)[0]
    assert found == pytest.approx(float(0.75 * each[0] + 0.25 * each[1]))
    with pytest.raises(mg.MetricgradError, match="sigma"):
        HeatmapCrossEntropy(sigma=0)


def test_the_network_is_the_papers_formula():
    form = HeatmapNetwork(size=(10, 10), sigma=1.5, seed=3)
    maps, points = (x.double() for x in stored(6))
    error = (maps - gaussian_maps(points, 10, 10, 1.5)).square().flatten(1)
    first, second = (w.double() for w in form.network.mlp.weights)
    hidden = torch.nn.functional.elu(error @ first.T + form.network.mlp.biases[0].double())
    weight = (hidden @ second.T + form.network.mlp.biases[1].double()).sigmoid()[:, 0]
    torch.testing.assert_close(form.over(maps[None], points[None])[0], (weight * error.mean(1)).mean())
    assert sum(p.numel() for p in form.parameters()) == 100 * 8 + 8 + 8 + 1


def test_the_readings_are_shares_of_the_softmax_near_the_point():
    maps, points = (x.double() for x in stored(6))
    form = PeakNetwork(seed=1)
    spread = (maps - maps.mean((1, 2), keepdim=True)).square().mean().sqrt()
    yy, xx = torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
    expected = []
    for one, (x, y) in zip(maps, points, strict=True):
        distance = ((xx - x) ** 2 + (yy - y) ** 2).sqrt()
        near = [(distance <= r) | (distance <= distance.min()) for r in (0.5, 1, 2, 4, 8)]
        p = torch.stack(
            [(b * one / spread).flatten().softmax(0).reshape(10, 10)[n].sum() for b in (1, 4, 16) for n in near]
        )
        expected.append(torch.cat([1 - p, -(p + 1e-12).log() / 4]))
    readings = torch.stack(expected)
    zero = form.network.mlp(torch.zeros_like(readings[0]))
    torch.testing.assert_close(form.over(maps[None], points[None])[0], (form.network.mlp(readings) - zero).mean())


def test_mass_nearer_to_the_point_never_costs_more_and_any_size_of_map_is_read():
    form, point = PeakNetwork(seed=2), torch.tensor([[4.0, 4.0]])
    for size in (10, 17):
        costs = [float(Loss(form)(gaussian_maps(point + d, size, size, 1.0), point)) for d in (0.0, 1.0, 2.0, 4.0)]
        assert costs == sorted(costs)
        assert costs[0] < costs[-1]


@pytest.mark.parametrize(
    ("form", "floor"), [(PeakNetwork, 0.85), (functools.partial(HeatmapNetwork, size=(10, 10)), 0.5)]
)
def test_fitting_makes_it_rank_as_pck_does(form, floor):
    maps, points = stored(2000)
    loss = Loss(form(seed=1), RankCorrelation("pck", block=32, lr=3e-3, seed=1))
    fresh, truth = stored(1600, seed=1)
    blocks = [(fresh[i : i + 32], truth[i : i + 32]) for i in range(0, 1600, 32)]
    metric = torch.stack([mg.as_metric("pck")(*block) for block in blocks])

    def correlation():
        values = torch.stack([loss(*block).detach() for block in blocks])
        return float(mg.as_metric("spearman")(-values, metric))

    before = correlation()
    loss.prepare(maps, points)
    after = correlation()
    assert after > max(floor, before + 0.03)  # a linear reading of pixels by their place gains little
    assert not any(p.requires_grad for p in loss.form.parameters())


def test_the_squared_error_of_standardised_maps_says_nothing_of_their_height_and_level():
    maps, points = (x.double() for x in stored(30))
    standard = of_standardised_maps(GaussianMSE(sigma=1.5))
    aim, n = gaussian_maps(points, 10, 10, 1.5), maps.numel()
    covariance = ((maps - maps.mean()) * (aim - aim.mean())).mean() / maps.std()
    expected = (n - 1) / n + aim.square().mean() - 2 * covariance
    torch.testing.assert_close(standard(maps, points), expected)
    torch.testing.assert_close(standard(7 * maps - 3, points), expected)


@pytest.mark.filterwarnings("ignore:this surrogate")
def test_the_report_has_the_standard_loss_of_standardised_maps_beside_the_standard_loss():
    report = mg.ReLoss.fit("pck", *stored(200), steps=4, block=32, values=8).report()
    assert report["standardised_standard"]["value"] != report["standard"]["value"]
    assert "cross_entropy" not in report


def test_wrong_use_is_named():
    maps, points = stored(40)
    with pytest.raises(mg.MetricgradError, match="was made for"):
        Loss(HeatmapNetwork(size=(5, 10)))(maps, points)
    with pytest.raises(mg.MetricgradError, match="size"):
        HeatmapNetwork(size=(5,))
    with pytest.raises(mg.MetricgradError, match="sigma"):
        GaussianMSE(sigma=0)


def test_warm_up_of_heat_maps_starts_as_the_gaussian_squared_error():
    maps, points = stored(20)
    loss = mg.UniLoss("pck", warm_up=2)
    assert float(loss(maps.requires_grad_(), points).detach()) == pytest.approx(
        float(GaussianMSE()(maps.detach(), points))
    )
