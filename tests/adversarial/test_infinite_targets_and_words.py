"""Infinite targets, words beyond the vocabulary, and an option that a metric and ``as_metric`` both have."""

from __future__ import annotations

import math

import pytest
import torch

import metricgrad as mg


@pytest.mark.parametrize(
    "metric",
    ["ndcg", "map", "mrr", "recall_at_k", "mse", "mae", "r2", "brier", "log_loss", "spearman", "kendall"],
)
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


def test_padding_of_sentences_is_any_number_below_0_in_a_fitted_loss_too():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(4, 5, 6, generator=g), torch.randint(6, (4, 5), generator=g)
    targets[1:, 3:] = -1
    loss = mg.Loss(mg.forms.TokenNetwork())
    expected = loss(scores, targets)
    assert torch.equal(loss(scores, targets.masked_fill(targets < 0, -100)), expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "adalfl", "ala"])
def test_fit_on_sentences_says_how_padding_is_left_out(loss):
    inputs = torch.arange(40).reshape(8, 5) % 6
    targets = (inputs + 1) % 6
    targets[::2, 3:] = -100
    data = (inputs, targets)

    def train(metric):
        model = torch.nn.Sequential(torch.nn.Embedding(6, 4), torch.nn.Linear(4, 6))
        return mg.fit(model, data, data, metric=metric, loss=loss, epochs=1, progress=False, device="cpu")

    with pytest.raises(mg.MetricgradError, match="padding out with a mask, or ignore_index="):
        train("bleu")
    assert 0 <= train(mg.as_metric("bleu", ignore_index=-100)).valid <= 1
