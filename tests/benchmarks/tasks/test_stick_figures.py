"""Drawn figures: joints where the limbs are, draws that follow the seed; the hourglass learns them."""

import math

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.baselines.gaussian_mse import GaussianMSE
from tasks.stick_figures.data import JOINTS, draw_figures
from tasks.stick_figures.model import Hourglass
from tasks.stick_figures.task import figures


def test_figures_lie_within_their_pictures_and_follow_the_seed():
    images, joints, heads = draw_figures(300, size=24, seed=3)
    assert images.shape == (300, 1, 24, 24)
    assert joints.shape == (300, len(JOINTS), 2)
    assert float(joints.min()) > 0.9
    assert float(joints.max()) < 22.1
    assert (heads > 2).all()
    again = draw_figures(300, size=24, seed=3)
    assert all(torch.equal(a, b) for a, b in zip((images, joints, heads), again, strict=True))
    assert not torch.equal(draw_figures(300, size=24, seed=4)[0], images)
    assert draw_figures(0)[0].shape == (0, 1, 32, 32)
    with pytest.raises(mg.MetricgradError, match="16 pixels"):
        draw_figures(1, size=8)


def test_joints_lie_on_what_is_drawn():
    images, joints, _ = draw_figures(200, noise=0.0, seed=0)
    nearest = joints.round().long()
    which = torch.arange(200)[:, None]
    at_joints = images[which, 0, nearest[..., 1], nearest[..., 0]]
    assert float((at_joints > 0.15).float().mean()) > 0.99
    assert float((images > 0.15).float().mean()) < 0.35


def test_an_hourglass_learns_the_head():
    torch.manual_seed(0)
    images, joints, _ = draw_figures(256, seed=0)
    unseen, truth, heads = draw_figures(128, seed=1)
    model = Hourglass(1, width=8, depth=2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(6):
        for i in range(0, 256, 32):
            optimizer.zero_grad()
            GaussianMSE(sigma=1.5)(model(images[i : i + 32]), joints[i : i + 32, 2:3]).backward()
            optimizer.step()
    assert float(mg.as_metric("pck")(model.eval()(unseen), truth[:, 2:3], head_sizes=heads)) > 0.6
    with pytest.raises(mg.MetricgradError, match="multiples of 4"):
        model(torch.zeros(1, 1, 30, 32))


@pytest.mark.parametrize("loss", ["uniloss", "gaussian_mse"])
def test_fit_trains_the_task(loss, tmp_path):
    task = figures
    train, valid, _ = ((x[:64], y[:64]) for x, y in task.load(0))
    found = mg.fit(task.model(), train, valid, metric="pck", loss=loss, epochs=2, batch_size=32, out=tmp_path,
                   progress=False, device="cpu", lr=0.01)  # fmt: skip
    assert len(found.history) == 2
    assert all(math.isfinite(value) for row in found.history for value in row.values())
    assert (loss == "gaussian_mse") == (loss == task.standard)


def test_the_mismatch_of_the_squared_error_is_measured():
    _, joints, _ = draw_figures(60, size=16)
    maps = torch.randn(60, 11, 16, 16, generator=torch.Generator().manual_seed(0))
    found = mg.mismatch(GaussianMSE(), "pck", maps, joints, blocks=20)
    assert -1 <= found.value <= 1
