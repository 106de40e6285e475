"""The loss of one list: its gradient is that of the loss it states, and a step starts few kernels."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import metricgrad as mg
from metricgrad.losses.interpolated.lists.secants import Secants, Sides
from metricgrad.losses.interpolated.twin import Twin

METRICS = ["average_precision", "auroc", "recall_at_precision:precision=0.6", "ndcg:k=20", "mrr", "precision_at_k"]
FREE = {"detach", "expand", "permute", "select", "slice", "split", "squeeze", "t", "unbind", "unfold", "unsqueeze",
        "view", "alias", "empty", "empty_like", "new_empty", "lift_fresh", "_local_scalar_dense"}  # fmt: skip
MOST = {"average_precision": 112, "auroc": 114, "recall_at_precision:precision=0.6": 130, "ndcg:k=20": 156}


class Kernels(TorchDispatchMode):
    """How many operations inside are neither views nor allocations."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function._schema.name.split("::")[-1] not in FREE
        return function(*args, **(kwargs or {}))


def one_list(n):
    generator = torch.Generator().manual_seed(n)
    targets = (torch.rand(n, generator=generator) < 0.3).long()
    return torch.randn(n, generator=generator, dtype=torch.float64) + targets, targets


@pytest.mark.parametrize("n", [7, 200, 1600])  # beyond 2^18 pairs on the lattice
@pytest.mark.parametrize("name", METRICS)
def test_the_gradient_is_that_of_the_loss(name, n):
    scores, targets = one_list(n)
    counts = int(targets.sum()), int((1 - targets).sum())
    sides = Sides.of(scores, targets > 0, counts, counts)
    secants = Secants(Twin(mg.as_metric(name)), sides, calls=16)
    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(secants.loss(leaf), leaf)
    torch.testing.assert_close(secants.gradient(), expected, rtol=1e-5, atol=1e-7 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["average_precision", "f1"])
def test_targets_may_be_booleans(name):
    scores, targets = one_list(40)
    assert mg.UniLoss(name)(scores.requires_grad_(), targets > 0) == mg.UniLoss(name)(scores, targets)


@pytest.mark.parametrize("name", MOST)
def test_a_step_starts_few_kernels(name):
    loss, (scores, targets) = mg.UniLoss(name), one_list(64)
    for _ in range(2):
        loss(scores.float().requires_grad_(), targets).backward()
    with Kernels() as kernels:
        loss(scores.float().requires_grad_(), targets).backward()
    assert kernels.count <= MOST[name]
