"""The best threshold of one score, and the utilities there, against tables counted one by one."""

import pytest
import sklearn.metrics as sk
import torch

import metricgrad as mg
from metricgrad.losses.interpolated.memory import Memory
from metricgrad.losses.interpolated.thresholds import at_best_threshold, best_threshold
from metricgrad.metrics.families.confusion_tables import ConfusionTables
from metricgrad.metrics.utilities import values_of_labels

METRICS = ["f1", "accuracy", "mcc", "kappa", "macro_f1", "g_mean", "jaccard", "quadratic_kappa", "balanced_accuracy"]


def _remembered(seed, *, weighted):
    g = torch.Generator().manual_seed(seed)
    memory = Memory(48)
    for _ in range(3):
        scores = torch.randn(20, generator=g).round(decimals=1)
        targets = (torch.rand(20, generator=g) < 0.3 + 0.2 * scores.sigmoid()).long()
        weight = torch.randint(0, 4, (20,), generator=g).double() if weighted else None
        found = memory.joined(scores, targets, weight, keep=True)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", METRICS)
def test_tables_find_the_threshold_that_calls_find(spec, weighted):
    metric = mg.as_metric(spec)
    for seed in range(6):
        at = _remembered(seed, weighted=weighted)
        there = at.weight > 0

        def values(labels, at=at, there=there):
            return values_of_labels(
                metric, labels[:, there], at.targets[there].long(), 1, sample_weight=at.weight[there]
            )

        cut, (now, ideal), utilities = at_best_threshold(
            metric.fast_path, at, 20, given=weighted, higher_is_better=metric.higher_is_better
        )
        by_calls = best_threshold(at, 63, values, higher_is_better=metric.higher_is_better)
        best = values(torch.stack([at.values > cut, at.values > by_calls]).long())
        assert torch.isclose(best[0], best[1], atol=1e-12), (float(cut), float(by_calls))

        labels = torch.stack([at.values > cut, at.values > 0, at.targets > 0]).long()
        own = at.weight.clone()
        own[:-20] = 0
        last = torch.arange(len(own)) >= len(own) - 20
        one_by_one = metric.fast_path.at(
            ConfusionTables.of(
                labels, labels[2], torch.stack([at.weight / at.weight.sum(), own, own]), 2,
                torch.stack([there, last, last]) if weighted else None, smooth=1 / len(own),
            )
        )  # fmt: skip
        torch.testing.assert_close(torch.stack([now, ideal]), one_by_one.values()[1:], equal_nan=True)
        rows = one_by_one.slopes().rows(torch.arange(2), own)
        torch.testing.assert_close(utilities.gains(rows.dtype), rows[:, 1] - rows[:, 0])


@pytest.mark.parametrize("metric", ["f1", "mcc", mg.as_metric(sk.precision_score, zero_division=0.0)])
def test_weights_that_are_no_whole_numbers_leave_nothing_where_nothing_is_said(metric):
    metric = mg.as_metric(metric)
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        scores, targets = -torch.rand(40, generator=g), (torch.arange(40) % 3 == 0).long()
        weight = torch.rand(40, generator=g)
        value = mg.UniLoss(metric)(scores.requires_grad_(), targets, sample_weight=weight)
        assert float(value.detach()) == pytest.approx(
            1 - float(metric(scores.detach(), targets, sample_weight=weight)), abs=1e-6
        )
