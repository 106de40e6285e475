"""Sentences: moves of words expect the exact mean of BLEU to first order, and training on them raises it."""

import itertools

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.refactoring.batch import Batch
from metricgrad.refactoring.moves import MoveRequest
from metricgrad.refactoring.tokens import Tokens
from tasks.romanian_strings.model import NonAutoregressive

SPEC = "bleu:end=0,order=2,smooth=add_k"


def batch(n=3, places=3, words=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(1, words, (n, places), generator=g)
    targets[0, places - 1] = 0
    targets[1, 1], targets[1, 2:] = 0, -1
    return torch.randn(n, places, words, generator=g, dtype=torch.float64), targets


def moves(scores, targets, seed=0, budget=10**6, refactoring=None, softness=1.0, q=1.0):
    request = MoveRequest(
        scores, targets, torch.tensor(softness), q=q, budget=budget, share=1.0,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return (refactoring or Tokens(end=0)).moves(request)


def test_the_words_after_each_move_are_worth_what_their_scores_are():
    scores, targets = batch()
    metric, words = mg.as_metric(SPEC), moves(*batch())
    start, values = words.values(metric, Batch(scores, targets, {}))
    base = torch.zeros_like(scores).scatter(2, words.predicted.clamp(min=0)[..., None], 1.0)
    for row, place in (words.predicted < 0).nonzero():
        free = next(w for w in range(1, 5) if w not in targets[row])
        base[row, place] = torch.eye(5)[free]
    assert float(metric(base, targets)) == pytest.approx(float(start), abs=1e-9)
    for k, (row, place, word) in enumerate(zip(words.row, words.position, words.token, strict=True)):
        after = base.clone()
        chosen = int(word) if word >= 0 else next(w for w in range(1, 5) if w not in targets[row])
        after[row, place] = torch.eye(5)[chosen]
        assert float(metric(after, targets)) == pytest.approx(float(values[k]), abs=1e-9)


def test_one_place_expects_the_exact_mean_over_the_vocabulary():
    """With the other places certain, the value is the mean of BLEU over the words of one place, as q=1 promises."""
    scores, targets = batch(words=6)
    certain = 60.0 * torch.nn.functional.one_hot(scores.argmax(-1), 6).double()
    metric = mg.as_metric(SPEC)
    for row, place in itertools.product(range(3), range(3)):
        here = certain.clone()
        here[row, place] = scores[row, place]
        loss = Interpolated(metric, softness=1.0, q=1.0)
        value = 1 - float(mg.Loss(loss, mg.UniLoss(metric).aligner)(here, targets))
        each = torch.stack([torch.where(torch.eye(6)[w] > 0, 60.0, here[row, place]) for w in range(6)])
        sets = here.repeat(6, 1, 1, 1)
        sets[:, row, place] = each
        assert value == pytest.approx(float(scores[row, place].softmax(-1) @ metric.over(sets, targets)), abs=1e-6)


def test_unknown_words_and_words_outside_the_target_are_one_move():
    scores, targets = batch(words=5)
    targets[0] = torch.tensor([1, 2, 0])
    plain, without = (
        moves(scores, targets),
        moves(scores, targets, refactoring=Tokens(end=0, unknown=1)),
    )
    assert 1 in plain.token[plain.row == 0].tolist()
    assert 1 not in without.token[without.row == 0].tolist()
    for made in (plain, without):
        each = list(zip(made.row.tolist(), made.position.tolist(), made.token.tolist(), strict=True))
        assert len(set(each)) == len(each)
        # of the words 1, 2, the end and any other, all but the one said now
        assert sum((row, place) == (0, 0) for row, place, _ in each) == (3 if made is plain else 2)


def test_a_budget_leaves_places_out_and_weighs_the_others():
    scores, targets = batch(n=30)
    few = moves(scores, targets, budget=40)
    assert 0 < len(few.row) <= 40
    metric = mg.as_metric(SPEC)

    def changed(budget, seed):
        made = moves(scores, targets, budget=budget, seed=seed)
        return float(made.change(made.delta(*made.values(metric, Batch(scores, targets, {})))))

    whole = torch.tensor([changed(10**6, seed) for seed in range(40)])
    part = torch.tensor([changed(120, seed) for seed in range(40)])
    assert float(part.mean()) == pytest.approx(float(whole.mean()), abs=4 * float(part.std()) / 40**0.5 + 1e-3)


def test_ideal_scores_are_ideal_and_binaries_are_realised():
    scores, targets = batch()
    metric = mg.as_metric(SPEC)
    tokens = mg.infer_refactoring(metric, scores, targets)
    assert isinstance(tokens, Tokens)
    g = torch.Generator().manual_seed(0)
    ideal = tokens.ideal(scores, targets, 4, g)
    assert torch.allclose(metric.over(ideal, targets), torch.ones(4, dtype=torch.float64))
    assert bool(tokens.binaries(ideal[0], targets).all())
    binaries = tokens.binaries(scores, targets)
    assert torch.equal(tokens.binaries(tokens.scores_from(binaries, scores, targets), targets), binaries)
    assert bool((tokens.perturbed(ideal, targets, 2, g) != ideal).flatten(1).any(1).all())
    assert float(mg.UniLoss(metric)(ideal[0] * 50, targets)) == pytest.approx(0, abs=1e-6)


def test_a_context_it_cannot_use_and_an_empty_batch():
    loss = mg.UniLoss("bleu:end=0")
    scores = torch.randn(2, 3, 4, requires_grad=True)
    assert float(loss(scores, torch.full((2, 3), -1)).detach()) == 0
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        loss(scores, torch.ones(2, 3).long(), groups=torch.zeros(2))


def test_training_on_bleu_after_a_warm_up_raises_bleu_on_unseen_sentences():
    g = torch.Generator().manual_seed(0)
    source = torch.randint(1, 12, (600, 3), generator=g)
    dictionary = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(11, generator=g) + 1])
    targets = torch.cat([dictionary[source].flip(1), torch.zeros(600, 1, dtype=torch.long)], 1)
    torch.manual_seed(0)
    model = NonAutoregressive(12, 12, length=4, width=32, layers=1, heads=2, dropout=0.0)
    metric = mg.as_metric("bleu:end=0,order=2")
    optimizer, loss = torch.optim.Adam(model.parameters(), 5e-3), mg.UniLoss(metric, warm_up=50)
    before = float(metric(model(source[500:]), targets[500:]).detach())
    for step in range(200):
        rows = torch.arange(500)[(50 * step) % 500 :][:50]
        optimizer.zero_grad()
        loss(model(source[rows]), targets[rows]).backward()
        optimizer.step()
    assert before < 0.3
    assert float(metric(model.eval()(source[500:]), targets[500:]).detach()) > 0.8
