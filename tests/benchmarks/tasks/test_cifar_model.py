"""Residual networks have the published sizes and shapes."""

import pytest
import torch

import metricgrad as mg
from tasks.cifar.model import resnet18, resnet20, wide_resnet


@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (resnet20, 0.27),
        (resnet18, 11.17),
        (lambda: wide_resnet(28, 10), 36.5),
        (lambda: wide_resnet(16, 8), 10.96),
    ],
)
def test_sizes_are_the_published_ones(make, millions):
    with torch.device("meta"):
        model = make()
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=5e-3)


@pytest.mark.parametrize("make", [resnet20, lambda classes: wide_resnet(10, 1, classes)])
def test_learns_two_images(make):
    torch.manual_seed(0)
    model, x, y = make(classes=7), torch.randn(2, 3, 16, 16), torch.tensor([3, 6])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(15):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert model(x).argmax(1).tolist() == [3, 6]


def test_depths_that_do_not_exist_are_refused():
    with pytest.raises(mg.MetricgradError, match="6 n \\+ 4"):
        wide_resnet(18)
    with pytest.raises(mg.MetricgradError, match="widen"):
        wide_resnet(16, 0)
