"""Sums over the pairs of many lists: on one lattice, or one by one, they are those over pairs that are held."""

import time

import pytest
import torch

import metricgrad as mg
from metricgrad.functional.kernels import SIGMOID, SOFTPLUS, Kernel
from metricgrad.losses.interpolated.lists import pairs
from metricgrad.losses.interpolated.lists.pairs import HeldPairs, Plan, SummedPairs

KERNELS = [SIGMOID, SIGMOID.derivative(), SOFTPLUS, Kernel((0.0, 0.5), slope=0.5)]


def lists(spread, weighted=False):
    """Six lists of 40 items, up to 15 of which are summed by: fewer in the first, none in the last; one counts none.

    What stands for no item is at 0.
    """
    g = torch.Generator().manual_seed(0)
    up, depth = (spread * torch.randn(6, of, generator=g, dtype=torch.float64) for of in (15, 40))
    up[0, 11:] = up[5] = 0
    depth[torch.rand(6, 40, generator=g) < 0.3] = torch.inf
    depth[4] = torch.inf
    return up, depth, torch.rand(6, 40, generator=g, dtype=torch.float64) if weighted else None


@pytest.mark.parametrize("spread", [3.0, 50.0, 1e6], ids=str)  # the last on no one lattice
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_near_linear_sums_are_those_over_all_pairs(kernel, weighted, spread):
    up, depth, mass = lists(spread, weighted)
    held, summed = HeldPairs(up, depth, mass), SummedPairs(up, depth, mass)
    torch.testing.assert_close(summed.near(kernel), held.near(kernel), rtol=1e-6, atol=1e-6)
    weights = torch.rand(up.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (up != 0)
    found, expected = (of.weighted(weights, kernel, 0.3) for of in (summed, held))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS[:2], ids=str)
@pytest.mark.parametrize("far", [-torch.inf, -1e308, torch.nan], ids=str)
def test_what_is_infinitely_far_off_or_nan_is_so_in_near_linear_sums(kernel, far):
    """Not brought in to the edge of a lattice, and no index of one."""
    up, depth, _ = lists(3.0)
    depth[1, 3] = far
    held, summed = HeldPairs(up, depth), SummedPairs(up, depth)
    torch.testing.assert_close(summed.near(kernel), held.near(kernel), rtol=1e-6, atol=1e-6, equal_nan=True)
    found, expected = (of.weighted((up != 0).to(up), kernel) for of in (summed, held))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_a_graph_is_that_of_held_pairs():
    up, depth, mass = lists(3.0, weighted=True)
    leaves = [up.clone().requires_grad_() for _ in range(2)]
    for of, leaf in zip((HeldPairs, SummedPairs), leaves, strict=True):
        of(leaf, depth, mass).near(SIGMOID).square().sum().backward()
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad, rtol=1e-6, atol=1e-6)


def embeddings(n, classes):
    g = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % classes
    return torch.randn(n, 8, generator=g, dtype=torch.float64) + torch.nn.functional.one_hot(targets % 8, 8), targets


def gradient(loss, scores, targets):
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    return leaf.grad


@pytest.mark.parametrize(
    ("spec", "data"),
    [
        ("map_at_r", embeddings(128, 2)),
        ("retrieval_recall", embeddings(128, 3)),
        (
            "average_precision",
            (torch.randn(300, 3, dtype=torch.float64), (torch.arange(900) % 7 < 3).view(300, 3).long()),
        ),
        ("ndcg", (torch.randn(4, 200, dtype=torch.float64), (torch.arange(800) % 5).view(4, 200))),
    ],
)
def test_a_loss_of_many_lists_is_the_same_by_either(spec, data, monkeypatch):
    found = []
    for summed in (False, True):
        monkeypatch.setattr(Plan, "of", classmethod(lambda cls, *_, summed=summed: cls(summed, 3)))
        found.append(gradient(mg.UniLoss(spec), *data))
    assert (found[1] - found[0]).norm() <= 1e-6 * found[0].norm() > 0


def test_pairs_are_held_where_that_is_cheaper():
    few, many = torch.linspace(-9, 9, 64).expand(64, 64), torch.linspace(-9, 9, 1024).expand(1024, 1024)
    assert not Plan.of(32, few).summed
    assert Plan.of(102, many).summed
    assert not Plan.of(102, 1e5 * many).summed  # a lattice of so many nodes is not
    assert Plan.of(512, 1e5 * many).summed
    plan = Plan.of(512, many)
    assert plan.step * 1536 <= pairs._POINTS
    assert [len(many[some]) for some in plan.parts(1024)] == 24 * [42] + [16]


def test_a_step_on_two_classes_of_embeddings_takes_no_time_of_pairs(monkeypatch):
    """512 rows, each of which has its own list of 256 positives."""
    data, took = embeddings(512, 2), []
    for plan in (Plan.of, classmethod(lambda cls, *_: cls(False, 1))):
        monkeypatch.setattr(Plan, "of", plan)
        start = time.process_time()
        gradient(mg.UniLoss("map_at_r"), *data)
        took.append(time.process_time() - start)
    assert 2 * took[0] < took[1]
