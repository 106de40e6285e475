"""The drawn shapes, and the network for them."""

import pytest
import torch

import metricgrad as mg
from tasks.shapes.data import draw_shapes
from tasks.shapes.model import UNet


def test_pictures_follow_from_the_seed_and_every_mask_has_a_pixel():
    images, masks = draw_shapes(40, size=20, seed=3)
    assert images.shape == (40, 1, 20, 20)
    assert set(masks.unique().tolist()) == {0, 1}
    assert bool(masks.flatten(1).any(1).all())
    assert all(torch.equal(a, b) for a, b in zip((images, masks), draw_shapes(40, size=20, seed=3), strict=True))
    assert not torch.equal(images, draw_shapes(40, size=20, seed=4)[0])
    with pytest.raises(mg.MetricgradError, match="at least 8 pixels"):
        draw_shapes(1, size=4)


def test_the_network_gives_a_score_for_every_pixel():
    network = UNet(outputs=3)
    assert network(torch.zeros(2, 1, 16, 20)).shape == (2, 3, 16, 20)
    assert 10_000 < sum(p.numel() for p in UNet().parameters()) < 20_000
