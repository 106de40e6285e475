"""Masks against all masks there are, and against one threshold for all images."""

import itertools

import pytest
import torch

import metricgrad as mg
from metricgrad.decisions import Masks


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("overlap", ["dice", "iou"])
def test_no_mask_has_more_overlap_to_expect(overlap):
    scores = drawn(20, 2, 4, seed=3)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)), dtype=torch.float64)
    found = Masks(overlap, 0.5, 0.25).predict(scores).flatten(1).double()
    for mask, p in zip(found, (2 * scores.flatten(1) + 0.25).sigmoid(), strict=True):
        hit, size = every @ p, every.sum(1)
        value = 2 * hit / (size + p.sum()) if overlap == "dice" else hit / (size + p.sum() - hit)
        ours = value[(every == mask).all(1)]
        assert float(ours) == pytest.approx(float(value.max()))


def test_an_image_without_a_pixel_to_expect_stays_empty():
    scores = torch.full((2, 3, 3), -9.0)
    scores[1, 0, 0] = 1.0
    assert Masks().predict(scores).sum((1, 2)).tolist() == [0, 1]
    assert Masks()(torch.zeros(0, 3, 3)).shape == (0, 3, 3)
    assert Masks().predict(torch.zeros(1, 2, 2)).sum() == 4  # equal scores, and one half of each to expect


def uneven(n=60, size=12, seed=0):
    """Images of which some are seen well and some badly: logits that are calibrated, and masks drawn from them."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, generator=g) * size
    away = torch.cdist(torch.cartesian_prod(*[torch.arange(size).float()] * 2)[None], centre[:, None])
    sharpness = torch.rand(n, 1, generator=g) * 3 + 0.2
    logits = (sharpness * (2.5 - away[..., 0]) - torch.rand(n, 1, generator=g) * 2).reshape(n, size, size)
    return logits, (torch.rand(logits.shape, generator=g) < logits.sigmoid()).long()


@pytest.mark.parametrize("name", ["dice", "mean_iou:background=False"])
def test_it_beats_one_threshold_on_the_mean_over_images(name):
    metric, (scores, targets), (new, truth) = mg.as_metric(name), uneven(200), uneven(200, seed=1)
    images = torch.arange(200)
    decision = mg.fit_decision(metric, scores, targets, method="masks", groups=images)
    one = mg.fit_decision(metric, scores, targets, method="threshold", groups=images)
    values = [float(metric(decided(new), truth, groups=images)) for decided in (decision, one)]
    assert values[0] > values[1] + 0.01
    assert decision.overlap == ("dice" if name == "dice" else "iou")


@pytest.mark.parametrize("name", ["dice", "mean_iou:background=False"])
def test_it_is_chosen_where_images_are_seen_unevenly(name):
    scores, targets = uneven(200)
    chosen = mg.fit_decision(name, scores, targets, groups=torch.arange(200))
    assert chosen.kind == "masks", chosen.report()


def test_scores_that_are_no_images_are_refused():
    with pytest.raises(mg.MetricgradError, match=r"images \(N, H, W\)"):
        Masks()(torch.zeros(3))
    for config in ({"overlap": "area"}, {"temperature": 0.0}, {"shift": float("nan")}):
        with pytest.raises(mg.MetricgradError, match="expected"):
            Masks(**config)


def test_a_pixel_that_is_not_known_is_not_taken_before_one_that_is():
    assert Masks().predict(torch.tensor([[1.0, torch.nan, -1.0]])).tolist() == [[1, 0, 0]]


def test_large_images_in_half_precision_have_finite_scores():
    scores = drawn(1, 512, 512).half()
    assert Masks()(scores).isfinite().all()
    assert torch.equal(Masks().predict(scores), Masks().predict(scores.float()))
