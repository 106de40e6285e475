"""Metrics of queries: a query of weight 2 counts as two."""

import pytest
import torch

import metricgrad as mg

SPECS = ("ndcg", "ndcg:k=2,exponential=True", "map", "mrr", "precision_at_k:k=2", "recall_at_k:k=2", "hit_rate:k=1")
SIZES = torch.tensor([3, 1, 5, 4, 2])
WEIGHT = torch.tensor([1.0, 4.0, 2.0, 0.0, 3.0])


def _lists():
    g = torch.Generator().manual_seed(3)
    groups = torch.tensor([7, 2, 90, 5, 11]).repeat_interleave(SIZES)
    order = torch.randperm(len(groups), generator=g)
    scores = torch.randn(len(groups), generator=g)
    return scores, torch.randint(3, (len(groups),), generator=g), groups[order]


@pytest.mark.parametrize("spec", SPECS)
def test_the_mean_over_queries_is_weighted(spec):
    metric, (scores, targets, groups) = mg.as_metric(spec), _lists()
    queries = groups.unique()  # ascending, as the weights of queries are given
    alone = torch.stack([metric(scores[groups == q], targets[groups == q]) for q in queries])
    expected = float((alone * WEIGHT).sum() / WEIGHT.sum())
    each = WEIGHT[torch.searchsorted(queries, groups)]
    assert float(metric(scores, targets, groups=groups, sample_weight=WEIGHT)) == pytest.approx(expected)
    assert float(metric(scores, targets, groups=groups, sample_weight=each)) == pytest.approx(expected)
    padded = [torch.cat([x, x.new_tensor(v)]) for x, v in ((scores, [9.0, 9.0]), (targets, [2, 0]), (groups, [-1, -1]))]
    mask = padded[2] >= 0
    found = metric(padded[0], padded[1], groups=padded[2], mask=mask, sample_weight=WEIGHT)
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("spec", SPECS)
def test_rows_are_queries_of_their_own_weight(spec):
    metric, g = mg.as_metric(spec), torch.Generator().manual_seed(4)
    scores, targets = torch.randn(6, 4, generator=g), torch.randint(3, (6, 4), generator=g)
    weight = torch.tensor([1, 2, 3, 1, 1, 2])
    twice = (x.repeat_interleave(weight, 0) for x in (scores, targets))
    assert float(metric(scores, targets, sample_weight=weight)) == pytest.approx(float(metric(*twice)))


@pytest.mark.parametrize("spec", ["ndcg", "map", "mrr"])
def test_a_query_of_no_weight_has_no_gradient(spec):
    scores, targets, groups = _lists()
    scores.requires_grad_()
    value = mg.UniLoss(spec, softness=1.0)(scores, targets, groups=groups, sample_weight=WEIGHT)
    (gradient,) = torch.autograd.grad(value, scores)
    unweighed = groups == groups.unique()[3]
    assert gradient[unweighed].abs().max() == 0
    assert gradient[~unweighed].abs().max() > 0


def test_weights_that_differ_within_a_query_are_refused():
    scores, targets, groups = _lists()
    for context in ({"groups": groups}, {}):
        with pytest.raises(mg.MetricgradError, match="differs within a query"):
            mg.as_metric("ndcg")(scores, targets, sample_weight=torch.arange(1.0, 16.0), **context)
    with pytest.raises(mg.MetricgradError, match="4 values for 5 queries"):
        mg.as_metric("ndcg")(scores, targets, sample_weight=WEIGHT[:4], groups=groups)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("options", [{}, {"anchored": False}])
def test_a_loss_refuses_an_item_of_no_weight_among_others_as_the_metric_does(spec, options):
    scores, targets, groups = _lists()
    weight = torch.ones(len(scores))
    weight[1] = 0
    for judged in (mg.as_metric(spec), mg.UniLoss(spec, **options)):
        with pytest.raises(mg.MetricgradError, match="differs within a query"):
            judged(scores.requires_grad_(), targets, groups=groups, sample_weight=weight)
