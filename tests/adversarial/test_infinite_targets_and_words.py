"""Infinite targets, words beyond the vocabulary, and an option that a metric and ``as_metric`` both have."""

from __future__ import annotations

import math

import pytest
import torch

import metricgrad as mg


@pytest.mark.parametrize("metric", ["ndcg", "map", "mrr", "recall_at_k", "mse", "mae", "r2", "brier", "log_loss"])
@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
def test_infinite_targets_are_told(metric, infinite):
    targets = torch.tensor([0.0, 1.0, infinite])
    for call in (mg.as_metric(metric), mg.UniLoss(metric)):
        with pytest.raises(mg.MetricgradError, match=r"targets hold NaN or infinity in 1 of 3 rows \(row 2\)"):
            call(torch.tensor([0.5, -1.0, 2.0], requires_grad=True), targets)


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_a_sentence_ends_with_a_word_that_has_a_score(interpolation):
    scores, targets = torch.randn(2, 5, 6, requires_grad=True), torch.randint(6, (2, 5))
    with pytest.raises(mg.MetricgradError, match="end is word 6, and scores have words 0 to 5"):
        mg.UniLoss("bleu:end=6", interpolation=interpolation)(scores, targets)
    assert mg.UniLoss("bleu:end=5", interpolation=interpolation)(scores, targets).isfinite()


def test_an_option_that_the_metric_has_itself_is_the_metrics():
    assert mg.as_metric("bleu", order=2).name == "bleu:order=2"
    with pytest.raises(mg.MetricgradError, match="bleu: order='scores_first'; expected a whole number"):
        mg.as_metric("bleu", order="scores_first")
    with pytest.raises(mg.MetricgradError, match="order cannot be set"):
        mg.as_metric("f1", order="targets_first")
