"""PCK against a plain loop, and the shapes of heat maps."""

import numpy as np
import pytest
import torch

import metricgrad as mg


def batch(n=7, joints=3, height=9, width=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, joints, height, width, generator=g)
    points = torch.rand(n, joints, 2, generator=g) * torch.tensor([width - 1.0, height - 1.0])
    return scores, points, 2 + 6 * torch.rand(n, generator=g), torch.rand(n, joints, generator=g) < 0.7


def looped(scores, points, reach, mask):
    """PCK as its definition says it, one joint at a time."""
    right = []
    for i in range(scores.shape[0]):
        for j in range(scores.shape[1]):
            if mask[i, j]:
                y, x = np.unravel_index(scores[i, j].numpy().argmax(), scores.shape[2:])
                right.append(np.hypot(x - float(points[i, j, 0]), y - float(points[i, j, 1])) <= float(reach[i]))
    return np.mean(right)


@pytest.mark.parametrize("radius", [None, 1.5, 0.25])
@pytest.mark.parametrize("heads", [True, False])
def test_pck_is_the_share_of_near_peaks(radius, heads):
    scores, points, sizes, mask = batch(n=60)
    metric = mg.as_metric("pck" if radius is None else f"pck:radius={radius}")
    factor = radius or (0.5 if heads else 2.0)
    reach = factor * (sizes if heads else torch.ones(len(sizes)))
    context = {"head_sizes": sizes} if heads else {}
    expected = looped(scores, points, reach, torch.ones_like(mask))
    assert float(metric(scores, points, **context)) == pytest.approx(expected, abs=1e-6)
    assert float(metric(scores, points, mask=mask, **context)) == pytest.approx(
        looped(scores, points, reach, mask), abs=1e-6
    )
    over = metric.over(torch.stack([scores, -scores]), points, mask=mask, **context)
    assert float(over[1]) == pytest.approx(looped(-scores, points, reach, mask), abs=1e-6)


def test_x_is_the_column_and_the_radius_is_inclusive():
    scores = torch.zeros(1, 1, 4, 6)
    scores[0, 0, 1, 4] = 1
    metric = mg.as_metric("pck:radius=2")
    assert float(metric(scores, torch.tensor([[[2.0, 1.0]]]))) == 1
    assert float(metric(scores, torch.tensor([[[1.9, 1.0]]]))) == 0
    assert float(metric(scores, torch.tensor([[[1.0, 4.0]]]))) == 0


def test_joints_that_are_absent_may_have_any_point():
    scores, points, sizes, mask = batch()
    points[~mask] = torch.nan
    value = mg.as_metric("pck")(scores, points, mask=mask, head_sizes=sizes)
    points[~mask] = 0
    assert value == mg.as_metric("pck")(scores, points, mask=mask, head_sizes=sizes)
    assert mg.as_metric("pck")(scores, points, mask=torch.zeros_like(mask)).isnan()
    by_image = torch.tensor([True, False] * 3 + [True])
    kept = mg.as_metric("pck")(scores[by_image], points[by_image])
    assert mg.as_metric("pck")(scores, points, mask=by_image) == kept
    assert mg.as_metric("pck")(scores.flatten(0, 1), points.flatten(0, 1)) == mg.as_metric("pck")(scores, points)


def test_wrong_input_is_named():
    scores, points, sizes, mask = batch()
    pck = mg.as_metric("pck")
    with pytest.raises(mg.MetricgradError, match="reads heat maps"):
        pck(scores, points[..., 0])
    with pytest.raises(mg.MetricgradError, match="reads heat maps"):
        pck(scores[:, :2], points)
    with pytest.raises(mg.MetricgradError, match="mask="):
        pck(scores, points.index_fill(1, torch.tensor([0]), torch.nan))
    with pytest.raises(mg.MetricgradError, match="head_sizes has shape"):
        pck(scores, points, head_sizes=sizes[:3])
    with pytest.raises(mg.MetricgradError, match="booleans"):
        pck(scores, points, mask=mask.long())
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        pck(scores, points, groups=torch.arange(7))
    with pytest.raises(mg.MetricgradError, match="radius"):
        mg.as_metric("pck:radius=-1")
    with pytest.raises(mg.MetricgradError, match="floats"):
        pck(scores.long(), points)
