"""Moves are worth the same on every path: as score sets, which any metric takes, and as the metric's own fast path."""

import pytest
import torch

import metricgrad as mg
from metricgrad.refactoring.batch import checked
from metricgrad.refactoring.from_structure import for_batch
from metricgrad.refactoring.label_moves import LabelMoves
from metricgrad.refactoring.moves import CountMoves, HitMoves, MoveRequest, NoMoves, WordMoves


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _binary():
    return torch.randn(40, generator=_rng(1), dtype=torch.float64), (torch.rand(40, generator=_rng(2)) < 0.3).long()


def _tied():
    scores, targets = _binary()
    return (scores * 2).round(), targets


def _classes():
    return torch.randn(40, 4, generator=_rng(3), dtype=torch.float64), torch.randint(4, (40,), generator=_rng(4))


def _sentences():
    targets = torch.randint(1, 6, (5, 4), generator=_rng(5))
    targets[1, 2:] = torch.tensor([0, -1])
    return torch.randn(5, 4, 7, generator=_rng(6), dtype=torch.float64), targets


def _moves(metric, scores, targets, **context):
    batch = checked(metric, scores, targets, context, check_finite=True)
    request = MoveRequest(
        batch.scores, batch.targets, torch.tensor(1.0).double(), q=0.5, budget=4096, share=1.0, generator=_rng(),
        groups=batch.groups,
    )  # fmt: skip
    return for_batch(metric.structure, batch, metric).moves(request), batch


CASES = {
    **dict.fromkeys(("accuracy", "macro_f1", "quadratic_kappa", "mcc", "g_mean"), (LabelMoves, _classes)),
    **dict.fromkeys(("top_k_accuracy:k=2",), (HitMoves, _classes)),
    **dict.fromkeys(("kappa", "balanced_accuracy", "jaccard:average=macro"), (LabelMoves, _classes)),
    **dict.fromkeys(("average_precision", "auroc", "recall_at_precision:precision=0.5"), (CountMoves, _binary)),
    **dict.fromkeys(("precision_at_k:k=5", "recall_at_k:k=5"), (CountMoves, _tied)),
    **dict.fromkeys(("bleu:order=2,end=0,smooth=add_k", "bleu:end=0"), (WordMoves, _sentences)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_fast_path_gives_the_values_of_score_sets(name, monkeypatch):
    kind, data = CASES[name]
    metric = mg.as_metric(name)
    moves, batch = _moves(metric, *data())
    assert type(moves) is kind
    start, values = moves.values(metric, batch)
    assert len(values) > 0
    assert float(moves.delta(start, values).abs().max()) > 0
    slow = moves.values(metric._copy(fast_path=None), batch)
    torch.testing.assert_close((start, values), slow, rtol=1e-6, atol=1e-9, check_dtype=False)
    # the metric itself is called on score sets alone
    monkeypatch.setattr(type(metric), "over", lambda *args, **kwargs: pytest.fail("called on score sets"))
    moves.values(metric, batch)


def test_rows_that_weigh_otherwise_are_valued_as_score_sets():
    metric, (scores, targets) = mg.as_metric("auroc"), _binary()
    weight = torch.rand(len(targets), generator=_rng(7)).double()
    moves, batch = _moves(metric, scores, targets, sample_weight=weight)
    start, values = moves.values(metric, batch)
    # its score sets are log-odds already
    expected = metric.decoded().over(torch.cat([moves.base, moves.stack()]), targets, sample_weight=weight)
    torch.testing.assert_close(torch.cat([start, values]), expected)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "quadratic_kappa", "top_k_accuracy:k=2"])
def test_labels_and_hits_are_valued_with_their_weights(name):
    metric, (scores, targets) = mg.as_metric(name), _classes()
    weight = torch.rand(len(targets), generator=_rng(7)).double()
    moves, batch = _moves(metric, scores, targets, sample_weight=weight)
    entries = moves.entries()
    expected = metric.over(torch.cat([entries.base, entries.stack()]), targets, sample_weight=weight)
    torch.testing.assert_close(torch.cat(moves.values(metric, batch)), expected)


def test_where_nothing_can_move_the_value_is_that_of_the_scores():
    scores, _ = _binary()
    scores.requires_grad_()
    metric, targets = mg.as_metric("precision_at_k:k=5"), torch.ones(40)
    moves, batch = _moves(metric, scores, targets)
    assert isinstance(moves, NoMoves)
    start, values = moves.values(metric, batch)
    assert float(start) == float(metric(scores.detach(), targets)) == 1
    assert len(values) == 0
    (gradient,) = torch.autograd.grad(moves.change(values), scores)
    assert not gradient.any()


def test_a_metric_loses_its_fast_path_with_its_description():
    metric = mg.as_metric("f1")
    assert metric.fast_path is not None
    assert metric.undescribed().fast_path is None
