"""The threshold against an exhaustive search."""

import pytest
import sklearn.metrics
import torch

import metricgrad as mg
from metricgrad.decisions.threshold import CANDIDATES_FOREIGN, candidates, choose_threshold, needs_threshold


def accuracy_at(scores, targets, threshold):
    return float(((scores > threshold).long() == targets).float().mean())


def test_exhaustive_search_finds_nothing_better():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(200, generator=generator) + 3
    targets = (scores + torch.randn(200, generator=generator) > 4).long()
    threshold, value = choose_threshold(mg.as_metric("accuracy"), scores, targets)
    everywhere = [accuracy_at(scores, targets, t) for t in torch.linspace(-1, 8, 4001).tolist()]
    assert value == accuracy_at(scores, targets, threshold) >= max(everywhere) - 1e-6


def test_zero_is_kept_where_nothing_is_gained():
    scores, targets = torch.tensor([-2.0, -1.0, 1.0, 5.0]), torch.tensor([0, 0, 1, 1])
    assert choose_threshold(mg.as_metric("accuracy"), scores, targets) == (0.0, 1.0)


def test_lower_is_better_and_a_foreign_metric_is_called_sparingly():
    calls = []

    def errors(labels, targets):
        calls.append(1)
        return float((labels != targets).sum())

    metric = mg.as_metric(errors, higher_is_better=False, reads="labels")
    scores = torch.randn(500, generator=torch.Generator().manual_seed(1))
    threshold, value = choose_threshold(metric, scores, (scores > 0.7).long())
    assert len(calls) <= CANDIDATES_FOREIGN + 1
    assert value < 15
    assert 0.5 < threshold < 0.9


def test_column_of_scores_counts_as_one_score_an_item():
    metric = mg.as_metric("accuracy")
    assert needs_threshold(metric, torch.zeros(4, 1), torch.zeros(4))
    assert not needs_threshold(metric, torch.zeros(4, 3), torch.zeros(4))
    value = choose_threshold(metric, torch.tensor([[3.0], [4.0]]), torch.tensor([0, 1]))
    assert value == (3.5, 1.0)


def test_candidates_begin_at_zero_and_stay_few():
    found = candidates(torch.linspace(-1, 1, 1000), 50)
    assert found[0] == 0
    assert len(found) == 51


@pytest.mark.parametrize("name", ["f1_score", "matthews_corrcoef", "accuracy_score"])
def test_a_metric_of_scikit_learn_chooses_as_the_built_in_one(name):
    ours = {"f1_score": "f1", "matthews_corrcoef": "mcc", "accuracy_score": "accuracy"}[name]
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(600, generator=g) < 0.2).long()
    scores = torch.randn(600, generator=g) + targets - 1
    found = [mg.fit_decision(m, scores, targets, method="threshold") for m in (ours, getattr(sklearn.metrics, name))]
    assert found[0].config() == found[1].config()


def test_a_twin_of_another_value_is_not_believed():
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, generator=g) < 0.2).long()
    scores = torch.randn(200, generator=g) + targets - 1
    called = mg.as_metric(sklearn.metrics.accuracy_score)._copy(twin=None)
    wrong = called._copy(twin=mg.as_metric(sklearn.metrics.f1_score).twin)
    assert choose_threshold(wrong, scores, targets) == choose_threshold(called, scores, targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_are_cut_by_a_foreign_metric_as_by_the_built_in_one(dtype):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(400, generator=g).to(dtype)
    targets = (scores + torch.randn(400, generator=g) > 1).long()
    found = mg.fit_decision(sklearn.metrics.f1_score, scores, targets)
    assert found.config() == mg.fit_decision("f1", scores, targets).config()
