"""The released code's ranks: a bitonic network that sorts, and each thing that goes wrong with it."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from metricgrad.functional import hard_rank, soft_rank, spearman
from metricgrad.functional.published_spearman import bitonic_sort, place_rank, published_spearman


def _scores(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _textbook(x):
    """The network with comparators of both directions, one after the other, on a power of two scores."""
    values, matrix, n = list(x), torch.eye(len(x), dtype=x.dtype), len(x)
    size = 2
    while size <= n:
        gap = size // 2
        while gap:
            for i in range(n):
                if i & gap:
                    continue
                low, high = (i, i + gap) if i & size == 0 else (i + gap, i)
                a, b = values[low], values[high]
                weight = torch.sigmoid(5 * (b - a) / ((b - a).abs() + 1e-10) ** 0.25)
                values[low], values[high] = weight * a + (1 - weight) * b, (1 - weight) * a + weight * b
                p, q = matrix[low].clone(), matrix[high].clone()
                matrix[low], matrix[high] = weight * p + (1 - weight) * q, (1 - weight) * p + weight * q
            gap //= 2
        size *= 2
    return torch.stack(values), torch.arange(1, n + 1, dtype=x.dtype) @ matrix


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_values_and_ranks_are_those_of_the_textbook_network(n):
    for x in _scores(4, n):
        for found, expected in zip(bitonic_sort(x), _textbook(x), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 17, 64])
def test_scores_far_apart_are_sorted_whatever_their_number(n):
    x = 1e6 * torch.stack([torch.randperm(n, generator=torch.Generator().manual_seed(i)) for i in range(20)]).double()
    values, ranks = bitonic_sort(x)
    torch.testing.assert_close(values, x.sort(-1).values)
    torch.testing.assert_close(ranks, hard_rank(x))


def test_two_scores_by_hand():
    stays = 1 / (1 + math.exp(-5 * 2 / 2**0.25))
    torch.testing.assert_close(bitonic_sort(torch.tensor([1.0, 3.0]).double())[1].tolist(), [2 - stays, 1 + stays])


def test_gradients():
    assert gradcheck(lambda x: bitonic_sort(x)[1], (_scores(2, 6).requires_grad_(),))


def test_a_sorted_value_falls_where_a_score_rises():
    x = _scores(4)
    slopes = torch.autograd.functional.jacobian(lambda row: bitonic_sort(row)[0], x)
    assert float(slopes.min()) < -0.01


def test_ranks_of_scores_close_together_leave_their_order_and_those_by_projection_do_not():
    x = _scores(16) / 10
    soft = bitonic_sort(x)[1]
    assert float(soft.std()) < 0.5 * float(hard_rank(x).std())
    assert float(soft[x.argsort()].diff().min()) < 0
    assert float(soft_rank(x)[x.argsort()].diff().min()) >= 0


def test_hard_ranks_break_ties_by_position():
    assert place_rank(torch.tensor([[2.0, 1.0, 2.0, 1.0]])).tolist() == [[3.0, 1.0, 4.0, 2.0]]
    losses, target_loss = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 0, 1, 1])
    order = torch.tensor([1, 0, 3, 2])
    here, there = (published_spearman(losses[o], target_loss[o], soft=False) for o in (torch.arange(4), order))
    torch.testing.assert_close(torch.stack([here, there]), torch.tensor([1.0, 0.6]).double())
    torch.testing.assert_close(spearman(losses[order], target_loss[order]), spearman(losses, target_loss))


def test_without_ties_hard_is_spearmans_and_wide_soft_is_hard():
    a, b = _scores(3, 9), _scores(3, 9, seed=1)
    torch.testing.assert_close(published_spearman(a, b, soft=False), spearman(a, b))
    torch.testing.assert_close(published_spearman(1e6 * a, b, soft=True), spearman(a, b))
