"""ReLoss for metrics of ranked lists: blocks of whole queries, and a loss that is called with groups."""

import warnings

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.sets import SetNetwork

OPTIONS = {"block": 48, "steps": 20, "values": 8}


def _queries(count=160):
    """Lists of 4 to 9 items, some scored well and some not, with a level of their own each."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.repeat_interleave(torch.arange(count), torch.randint(4, 10, (count,), generator=generator))
    gains = torch.randint(4, (len(groups),), generator=generator) * torch.randint(
        2, (len(groups),), generator=generator
    )
    skill, level = 2 * torch.rand(count, generator=generator), 3 * torch.randn(count, generator=generator)
    scores = torch.randn(len(groups), generator=generator) + skill[groups] * gains + level[groups]
    return scores, gains, groups


def _fitted(metric, gains=None, **options):
    scores, graded, groups = _queries()
    gains = graded if gains is None else gains(graded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mg.ReLoss.fit(metric, scores, gains, groups=groups, **{**OPTIONS, **options})


@pytest.fixture(scope="module", name="fitted")
def _of_ndcg():
    return _fitted("ndcg")


def test_it_ranks_queries_kept_apart_better_than_pairs_do(fitted):
    report = fitted.report()
    assert isinstance(fitted.form, ListNetwork)
    assert report["correlation"]["value"] > 0.7
    assert report["beats_standard"]


@pytest.mark.parametrize("metric", ["map", "mrr"])
def test_it_serves_metrics_of_relevance(metric):
    report = _fitted(metric, gains=lambda g: (g > 1).long()).report()
    assert report["correlation"]["value"] > 0.6


def test_another_form_may_read_the_lists():
    loss = _fitted("map", gains=lambda g: (g > 1).long(), form=SetNetwork())
    assert loss.report()["correlation"]["value"] > loss.report()["cross_entropy"]["value"]


def test_mismatch_draws_whole_queries(fitted):
    scores, gains, groups = _queries()
    found = mg.mismatch(fitted, "ndcg", scores, gains, groups=groups, block=48, blocks=100)
    assert found.value > 0.7


def test_a_model_trained_on_it_ranks_better(fitted):
    _, gains, groups = _queries()
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(len(groups), 6, generator=generator)
    inputs[:, 0] += gains
    inputs[:, 1] += 3 * torch.randn(160, generator=generator)[groups]
    model = torch.nn.Linear(6, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    train, ndcg = groups < 100, mg.as_metric("ndcg")
    for _ in range(40):
        optimizer.zero_grad()
        fitted(model(inputs[train])[:, 0], gains[train], groups=groups[train]).backward()
        optimizer.step()
    with torch.no_grad():
        scores = model(inputs[~train])[:, 0]
    kept = gains[~train], groups[~train]
    best = ndcg(inputs[~train, 0], kept[0], groups=kept[1])
    assert ndcg(scores, kept[0], groups=kept[1]) > best - 0.02


def test_groups_where_they_mean_nothing_are_refused():
    scores, gains, groups = _queries()
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        mg.ReLoss.fit("brier", scores, (gains > 0).long(), groups=groups)
    with pytest.raises(mg.MetricgradError, match="probability_network takes no groups"):
        mg.ReLoss.fit("map", scores, (gains > 0).long(), groups=groups, paper=True)
    with pytest.raises(mg.MetricgradError, match="of 3 groups"):
        mg.ReLoss.fit("map", scores, (gains > 0).long(), groups=groups % 3)
