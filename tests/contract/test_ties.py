"""Scores that tie: the loss is its mean over the orders that break the ties, whatever the order of the rows."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

import metricgrad as mg

#: Every registered metric of an order, with parameters under which it varies on small batches, and what it ranks.
RANKINGS = {
    "auroc": "binary",
    "average_precision": "binary",
    "recall_at_precision:precision=0.6": "binary",
    "precision_at_k:k=3": "binary",
    "recall_at_k:k=3": "binary",
    "hit_rate:k=2": "binary",
    "mrr": "binary",
    "map": "binary",
    "ndcg": "graded",
    "ndcg:k=3": "graded",
    "ndcg:exponential=True": "graded",
    "spearman": "graded",
    "kendall": "graded",
    "top_k_accuracy:k=2": "classes",
    "retrieval_recall": "embeddings",
    "map_at_r": "embeddings",
}
KINDS = {"positives_over_negatives", "ranking", "top_k", "neighbours"}


def _batch(reads: str, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of four values, or embeddings of six, so that most of them tie."""
    g = torch.Generator().manual_seed(seed)
    if reads == "classes":
        return torch.randint(3, (rows, 5), generator=g).double(), torch.randint(5, (rows,), generator=g)
    if reads == "embeddings":
        return torch.randn(6, 3, generator=g).double()[torch.randint(6, (rows,), generator=g)], torch.arange(rows) % 4
    scores = torch.randint(4, (rows,), generator=g).double()
    return scores, torch.randint(2 if reads == "binary" else 4, (rows,), generator=g)


def _run(loss: mg.Loss, scores: Tensor, targets: Tensor, **context: Tensor) -> tuple[Tensor, Tensor]:
    """The value and the gradient of a fresh first step."""
    leaf = scores.detach().clone().requires_grad_()
    value = loss(leaf, targets, **context)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def _moved(metric, scores: Tensor, targets: Tensor, groups: Tensor | None = None, **options) -> tuple[Tensor, ...]:
    """Value and gradient, and the same of shuffled rows, their gradient put back."""
    rows = torch.randperm(len(scores), generator=torch.Generator().manual_seed(9))
    found = []
    for order in (torch.arange(len(scores)), rows):
        context = {} if groups is None else {"groups": groups[order]}
        value, gradient = _run(mg.UniLoss(metric, softness=1.0, **options), scores[order], targets[order], **context)
        found += [value, torch.empty_like(gradient).index_copy(0, order, gradient)]
    return tuple(found)


def _assert_no_order(metric, scores: Tensor, targets: Tensor, groups: Tensor | None = None, **options) -> None:
    value, gradient, other, moved = _moved(metric, scores, targets, groups, **options)
    torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(moved, gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()) + 1e-12)


def test_every_ranking_metric_is_held_to_this():
    named = {spec.partition(":")[0] for spec in RANKINGS}
    structures = {name: mg.as_metric(f"{name}:k=2" if name == "top_k_accuracy" else name) for name in mg.list_metrics()}
    assert named == {name for name, metric in structures.items() if metric.structure.kind in KINDS}


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
@pytest.mark.parametrize("rows", [13, 60])
@pytest.mark.parametrize("spec", RANKINGS)
def test_the_order_of_the_rows_changes_nothing(spec, rows, interpolation):
    _assert_no_order(spec, *_batch(RANKINGS[spec], rows), interpolation=interpolation)


@pytest.mark.parametrize("spec", [s for s, reads in RANKINGS.items() if reads in ("binary", "graded")])
def test_equal_scores_have_a_gradient_by_target_alone(spec):
    _, targets = _batch(RANKINGS[spec], 40)
    scores = torch.zeros(40)
    _, gradient = _run(mg.UniLoss(spec, softness=1.0), scores, targets)
    for target in targets.unique():
        same = gradient[targets == target]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert gradient[targets == targets.max()].mean() < 0 < gradient[targets == 0].mean()


@pytest.mark.parametrize("spec", ["auroc", "average_precision", "ndcg", "spearman"])
def test_half_precision_scores_with_many_duplicates(spec):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(512, generator=g).bfloat16()
    assert len(scores.unique()) < 450
    targets = (torch.rand(512, generator=g) < 0.1).long()
    value, gradient, other, moved = _moved(spec, scores, targets)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(moved.float(), gradient.float(), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("spec", ["auroc", "average_precision", "map", "mrr", "ndcg", "spearman"])
@pytest.mark.parametrize("layout", ["groups", "rows", "columns"])
def test_many_lists_that_tie(spec, layout):
    g = torch.Generator().manual_seed(2)
    scores, targets = torch.randint(3, (12, 5), generator=g).double(), torch.randint(2, (12, 5), generator=g)
    one_list, by_column = spec in ("auroc", "average_precision"), spec in ("auroc", "average_precision", "spearman")
    if layout == "groups":
        if by_column:
            pytest.skip("takes no groups")
        groups = torch.arange(60) % 7
        return _assert_no_order(spec, scores.flatten(), targets.flatten(), groups)
    if layout == "columns" and one_list:  # one class against the rest
        targets = torch.randint(5, (12,), generator=g)
    return _assert_no_order(spec, scores, targets)


def test_weights_tell_tied_rows_apart():
    scores, targets = _batch("binary", 30)
    weight = torch.rand(30, generator=torch.Generator().manual_seed(3)).double()
    rows = torch.randperm(30, generator=torch.Generator().manual_seed(9))
    make = lambda: mg.UniLoss("average_precision", softness=1.0)  # noqa: E731
    value, gradient = _run(make(), scores, targets, sample_weight=weight)
    other, moved = _run(make(), scores[rows], targets[rows], sample_weight=weight[rows])
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(moved, gradient[rows])


@pytest.mark.parametrize(
    ("fn", "scores"),
    [(average_precision_score, "binary"), (roc_auc_score, "binary"), (lambda y, s: spearmanr(y, s)[0], "graded")],
    ids=["average_precision_score", "roc_auc_score", "spearmanr"],
)
def test_foreign_metrics_of_an_order(fn, scores):
    given = mg.as_metric(fn, higher_is_better=True, reads="scores", inputs="numpy", order="targets_first", name="mine")
    _assert_no_order(given, *_batch(scores, 40, seed=5))


def _mean_over_orders(spec: str, scores: Tensor, targets: Tensor, **context: Tensor) -> tuple[Tensor, Tensor]:
    """By brute force: each block of equal scores in every order, told apart by steps of 1e-9."""
    blocks = [(scores == value).nonzero().squeeze(-1) for value in scores.unique()]
    values, gradients = [], []
    for orders in itertools.product(*(itertools.permutations(range(len(block))) for block in blocks)):
        apart = scores.clone()
        for block, order in zip(blocks, orders, strict=True):
            apart[block] += 1e-9 * torch.tensor(order).double()
        value, gradient = _run(mg.UniLoss(spec, softness=1.0), apart, targets, **context)
        values.append(value)
        gradients.append(gradient)
    return torch.stack(values).mean(), torch.stack(gradients).mean(0)


@pytest.mark.parametrize(
    ("spec", "scores", "targets"),
    [
        ("average_precision", [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]),
        ("average_precision", [1, 0, 0, 0, 1, 2], [1, 1, 0, 0, 0, 0]),
        ("recall_at_precision:precision=0.6", [1, 0, 0, 0, 1, 2], [1, 1, 0, 0, 0, 1]),
        ("auroc", [0, 0, 1, 1, 0], [1, 0, 0, 1, 0]),
        ("mrr", [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]),
        ("map", [0, 0, 0, 1, 1], [1, 1, 0, 0, 1]),
        ("ndcg", [0, 0, 0, 0, 1], [3, 1, 0, 2, 0]),
        ("spearman", [0, 0, 0, 1, 1], [2, 0, 1, 1, 3]),
        ("kendall", [0, 0, 0, 0, 1], [2, 0, 1, 1, 3]),
    ],
)
def test_value_and_gradient_are_the_mean_over_all_orders(spec, scores, targets):
    scores, targets = torch.tensor(scores).double(), torch.tensor(targets)
    value, gradient = _run(mg.UniLoss(spec, softness=1.0), scores, targets)
    expected, slopes = _mean_over_orders(spec, scores, targets)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, slopes, rtol=1e-6, atol=1e-6)


def test_the_mean_over_orders_within_each_query():
    scores, targets = torch.tensor([0, 0, 1, 0, 0, 0]).double(), torch.tensor([1, 0, 0, 0, 1, 0])
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    value, gradient = _run(mg.UniLoss("map", softness=1.0), scores, targets, groups=groups)
    expected, slopes = _mean_over_orders("map", scores, targets, groups=groups)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, slopes, rtol=1e-6, atol=1e-6)


def test_six_equal_scores_with_two_positives():
    value, gradient = _run(mg.UniLoss("average_precision", softness=1.0), torch.zeros(6), torch.arange(6) // 4)
    assert float(value) == pytest.approx(0.662, abs=5e-4)
    assert gradient.tolist() == pytest.approx([0.07] * 4 + [-0.14] * 2, abs=1e-4)


def test_drawn_orders_agree_with_the_mean_over_many():
    """Ties beyond enumeration: 40 equal scores; the mean over many random orders, by steps of 1e-9."""
    g = torch.Generator().manual_seed(7)
    targets = (torch.arange(40) < 9).long()
    _, gradient = _run(mg.UniLoss("average_precision", softness=1.0), torch.zeros(40).double(), targets)
    drawn = [
        _run(mg.UniLoss("average_precision", softness=1.0), 1e-9 * torch.randperm(40, generator=g).double(), targets)[1]
        for _ in range(60)
    ]
    expected = torch.stack(drawn).mean(0)
    mean = torch.stack([expected[targets == 0].mean(), expected[targets == 1].mean()])
    assert torch.allclose(gradient, mean[targets], rtol=0.1)
