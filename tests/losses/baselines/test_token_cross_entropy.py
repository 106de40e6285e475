"""Cross-entropy of words, and what a fit keeps of a batch of sentences."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.baselines.token_cross_entropy import TokenCrossEntropy
from metricgrad.losses.networks.tokens import TokenNetwork


def sentences(n=6, places=5, words=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(words, (n, places), generator=g)
    targets[torch.arange(places) >= torch.randint(1, places + 1, (n, 1), generator=g)] = -1
    return torch.randn(n, places, words, generator=g, dtype=torch.float64), targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torch_s_with_padding_ignored(smoothing):
    scores, targets = sentences()
    expected = nn.functional.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), ignore_index=-1, label_smoothing=smoothing
    )
    loss = TokenCrossEntropy(label_smoothing=smoothing)
    assert torch.allclose(loss(scores, targets), expected)
    assert torch.allclose(loss(scores, targets.clamp(min=0), mask=targets >= 0), expected)
    scores.requires_grad_()
    assert float(loss(scores, torch.full_like(targets, -1)).detach()) == 0


def test_bad_input_is_refused():
    scores, targets = sentences()
    with pytest.raises(mg.MetricgradError, match=r"expected scores \(N, T, V\)"):
        TokenCrossEntropy()(scores[0], targets[0])
    with pytest.raises(mg.MetricgradError, match="label_smoothing"):
        TokenCrossEntropy(label_smoothing=2)


def test_condensed_sentences_have_the_same_value():
    scores, targets = sentences()
    scores[0, 0] = 80.0 * nn.functional.one_hot(targets[0, 0], 9)
    form = TokenNetwork(positions=5, seed=1)
    small, marks = form.reader.condensed(scores, targets)
    assert small.shape == (*targets.shape, 2)
    assert torch.allclose(form.over(small[None], marks[None]), form.over(scores[None], targets[None]))
    assert torch.allclose(form.standard_loss(small, marks), form.standard_loss(scores, targets))
    assert bool(small.float().isfinite().all())


def test_reloss_of_sentences_ranks_as_bleu_does_and_trains():
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(1, 8, (400, 5), generator=g)
    targets[:200, 3], targets[:200, 4] = 0, -1
    good = torch.rand(400, generator=g) * 4
    scores = torch.randn(400, 5, 8, generator=g) + good[:, None, None] * nn.functional.one_hot(targets.clamp(min=0), 8)
    loss = mg.ReLoss.fit("bleu:end=0,smooth=add_k", scores, targets, block=8, steps=40)
    assert isinstance(loss.form, TokenNetwork)
    assert loss.report()["correlation"]["value"] > 0.6
    leaf = torch.zeros(20, 5, 8, requires_grad=True)
    optimizer = torch.optim.Adam([leaf], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(leaf, targets[190:210]).backward()
        optimizer.step()
    assert float(mg.as_metric("bleu:end=0")(leaf.detach(), targets[190:210])) > 0.95
