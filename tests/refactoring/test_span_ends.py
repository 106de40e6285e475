"""Starts and ends as choices: what the refactoring says is right is right, and UniLoss trains on it."""

import pytest
import torch

import metricgrad as mg
from metricgrad.refactoring.span_ends import SpanEnds


def batch(n=16, length=15, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, length, generator=g), torch.randint(length, (n, 2), generator=g).sort(1).values


def test_it_is_what_span_metrics_carry():
    scores, targets = batch()
    found = mg.infer_refactoring("span_f1", scores, targets)
    assert isinstance(found, SpanEnds)


def test_comparisons_are_the_true_tokens_against_the_others():
    scores, targets = batch(2, 3)
    found = SpanEnds().comparisons(scores, targets)
    expected = [
        scores[n, e, targets[n, e]] - scores[n, e, j]
        for n in range(2) for e in range(2) for j in range(3) if j != targets[n, e]
    ]  # fmt: skip
    assert torch.equal(found, torch.stack(expected))
    bits = torch.rand(found.shape) < 0.5
    again = SpanEnds().comparisons(SpanEnds().scores_from(bits, scores, targets), targets) > 0
    assert torch.equal(again, bits)


@pytest.mark.parametrize("name", ["span_f1", "exact_match", "span_f1:max_length=20"])
def test_ideal_is_ideal_and_its_opposite_is_not(name):
    scores, targets = batch()
    metric, generator = mg.as_metric(name), torch.Generator()
    ideal = SpanEnds().ideal(scores, targets, 3, generator)
    assert torch.equal(metric.over(ideal, targets), torch.ones(3))
    whole = (targets[:, 0] == 0) & (targets[:, 1] == scores.shape[2] - 1)
    assert not metric.over(-ideal[:, ~whole], targets[~whole]).any()
    moved = SpanEnds().perturbed(ideal, targets, 4, generator)
    changed = (moved != ideal).any(-1).flatten(1).sum(1)
    assert bool((changed <= 4).all())
    assert bool((metric.over(moved, targets) < 1).all())


def trained(loss, metric, steps=60):
    scores, targets = batch()
    scores = scores.requires_grad_()
    optimizer = torch.optim.Adam([scores], 0.1)
    before = float(metric(scores.detach(), targets))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(scores, targets).backward()
        optimizer.step()
    return before, float(metric(scores.detach(), targets))


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_uniloss_trains_on_f1(interpolation):
    before, after = trained(mg.UniLoss("span_f1", interpolation=interpolation), mg.as_metric("span_f1"))
    assert before < 0.5
    assert after > (0.9 if interpolation == "local" else before + 0.2)


def test_uniloss_trains_on_exact_match_though_two_ends_must_be_right():
    before, after = trained(mg.UniLoss("exact_match"), mg.as_metric("exact_match"), steps=120)
    assert before < 0.2
    assert after > 0.6


def test_the_metric_is_what_trains():
    """With the value of another answer handed back, the answers are not found."""
    _, targets = batch()
    other = targets.roll(5, 0)

    class Elsewhere(type(mg.as_metric("span_f1"))):
        def over(self, stack, targets, **context):
            return super().over(stack, other, **context)

    metric = mg.as_metric("span_f1")
    wrong = metric._copy()
    wrong.__class__ = Elsewhere
    _, after = trained(mg.UniLoss(wrong), metric)
    assert after < 0.6
