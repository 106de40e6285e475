"""The learned forms: what each reads, and what each can and cannot tell apart."""

import warnings

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.value_regression import ValueRegression
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.spans import SpanNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_heat_map_at_its_aim_costs_nothing_and_a_weight_lies_between_0_and_1():
    form = HeatmapNetwork(size=(4, 5), sigma=1.5)
    points = torch.tensor([[2.0, 1.0], [4.0, 3.0]])
    y, x = torch.arange(4.0)[:, None], torch.arange(5.0)
    aims = torch.stack([torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2)) for px, py in points])
    loss = mg.Loss(form)
    assert float(loss(aims, points)) == pytest.approx(0, abs=1e-12)
    scores = torch.randn(2, 4, 5, generator=_g())
    assert 0 < float(loss(scores, points)) < float((scores - aims).square().mean())
    torch.testing.assert_close(loss(scores[None], points[None]), loss(scores, points))
    with pytest.raises(mg.MetricgradError, match="made for"):
        loss(torch.randn(2, 2, 3), points)


def test_a_span_overlap_is_that_of_counted_tokens():
    scores = torch.full((1, 2, 8), -50.0, dtype=torch.float64)
    scores[0, 0, 2] = scores[0, 1, 5] = 50.0  # predicted: 2 to 5; true: 4 to 6; 2 tokens shared of 4 and 3
    from metricgrad.losses.networks.spans import _overlap

    assert float(_overlap(scores.softmax(-1), torch.tensor([[4, 6]]))[0]) == pytest.approx(2 * 2 / 7)
    with pytest.raises(mg.MetricgradError, match="positions 0 to 7"):
        mg.Loss(SpanNetwork())(scores, torch.tensor([[4, 8]]))


def test_padding_does_not_change_a_sentence():
    loss = mg.Loss(TokenNetwork(positions=6))
    scores, targets = torch.randn(3, 4, 5, generator=_g(), dtype=torch.float64), torch.tensor([[0, 1, 2, 3]] * 3)
    longer = torch.cat([scores, torch.randn(3, 2, 5, generator=_g(1), dtype=torch.float64)], 1)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 3)
    padded = torch.cat([targets, torch.zeros(3, 2, dtype=torch.long)], 1)
    torch.testing.assert_close(loss(longer, padded, mask=mask), loss(scores, targets))


def test_a_token_counts_otherwise_among_other_neighbours():
    """What a mean over tokens cannot express: the same token readings in another order of sentences."""
    loss = mg.Loss(TokenNetwork(positions=4, seed=1), class_dim=-1)
    targets = torch.zeros(2, 2, dtype=torch.long)
    sure, unsure = torch.tensor([4.0, 0.0]), torch.tensor([-4.0, 0.0])
    together = torch.stack([torch.stack([sure, sure]), torch.stack([unsure, unsure])])
    mixed = torch.stack([torch.stack([sure, unsure]), torch.stack([sure, unsure])])
    assert float(loss(together, targets)) != pytest.approx(float(loss(mixed, targets)), rel=1e-3)


def test_a_worse_error_never_costs_less():
    loss = mg.Loss(RegressionNetwork())
    targets = torch.randn(30, generator=_g())
    values = [float(loss(targets + off, targets)) for off in (0.0, 0.2, 1.0, 5.0)]
    assert values == sorted(values)
    with pytest.raises(mg.MetricgradError):
        loss(torch.randn(30, 4), targets)


def _regression():
    targets = torch.randn(600, generator=_g())
    return targets + 0.5 * torch.randn(600, generator=_g(1)) * torch.rand(600, generator=_g(2)), targets


def _spans():
    targets = torch.randint(12, (500, 2), generator=_g()).sort(1).values
    return torch.randn(500, 2, 12, generator=_g(1)) + 2 * torch.nn.functional.one_hot(targets, 12), targets


def _sentences():
    targets = torch.randint(6, (400, 5), generator=_g())
    return torch.randn(400, 5, 6, generator=_g(1)) + 2 * torch.nn.functional.one_hot(targets, 6), targets


def _maps():
    pixel = torch.randint(16, (500,), generator=_g())
    noise = torch.rand(500, 1, generator=_g(2)) * torch.randn(500, 16, generator=_g(1))
    maps = (noise + torch.nn.functional.one_hot(pixel, 16)).reshape(500, 4, 4)
    return maps, torch.stack([pixel % 4, pixel // 4], 1).float()


@pytest.mark.parametrize(
    ("form", "metric", "data"),
    [
        (RegressionNetwork(), "mae", _regression),
        (SpanNetwork(), "accuracy", _spans),
        (TokenNetwork(positions=8), "accuracy", _sentences),
        (HeatmapNetwork(size=(4, 4)), "pck:radius=0.5", _maps),
    ],
)
def test_every_form_fits_a_metric_it_can_express(form, metric, data):
    scores, targets = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = mg.ReLoss.fit(metric, scores, targets, form=form, steps=20, block=32).report()
    assert report["correlation"]["value"] > 0.3
    assert report["standard"]["value"] > 0.3
    assert "cross_entropy" not in report
    assert report["monotone"] > 0.4  # a squared error also falls where a target pixel above 1 sinks
    assert report["gradient_scale"] > 0


def test_value_regression_explains_the_metric_and_needs_a_network(tmp_path):
    scores, targets = _regression()
    loss = mg.Loss(RegressionNetwork(), ValueRegression("mae", lr=0.01, steps=60, block=32))
    loss.prepare(scores, targets)
    assert mg.mismatch(loss, "mae", scores, targets).value > 0.8
    loss.save(tmp_path / "loss.safetensors")
    assert torch.equal(mg.load_loss(tmp_path / "loss.safetensors")(scores, targets), loss(scores, targets))
    with pytest.raises(mg.MetricgradError, match="no network to fit"):
        mg.Loss(mg.UniLoss("f1").form, ValueRegression("f1"))
