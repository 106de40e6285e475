"""What every refactoring promises: right at the ideal, bits that come back, moves that do what they say."""

import warnings

import pytest
import torch

from metricgrad.errors import MetricgradError
from metricgrad.refactoring.anchors import bit_anchors, score_anchors
from metricgrad.refactoring.label_moves import LabelMoves
from metricgrad.refactoring.labels import Argmax, Threshold
from metricgrad.refactoring.moves import HitMoves, MoveRequest
from metricgrad.refactoring.ranking.lists import as_lists
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives, Ranking
from metricgrad.refactoring.strata import choose
from metricgrad.refactoring.top_k import TopK


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _binary(n=40):
    g = _generator(1)
    return torch.randn(n, generator=g, dtype=torch.float64), (torch.rand(n, generator=g) < 0.3).long(), None


def _classes(n=30, c=5):
    g = _generator(2)
    return torch.randn(n, c, generator=g, dtype=torch.float64), torch.randint(c, (n,), generator=g), None


def _multilabel(n=20, c=4):
    g = _generator(3)
    return torch.randn(n, c, generator=g, dtype=torch.float64), (torch.rand(n, c, generator=g) < 0.4).long(), None


def _graded(n=25):
    g = _generator(4)
    return torch.randn(n, generator=g, dtype=torch.float64), torch.randint(4, (n,), generator=g).double(), None


def _grouped(n=30):
    scores, targets, _ = _binary(n)
    return scores, targets, torch.arange(n) % 4


CASES = {
    "threshold": (Threshold(), _binary),
    "threshold columns": (Threshold(exchangeable="column"), _multilabel),
    "threshold rows": (Threshold(exchangeable="row"), _multilabel),
    "argmax": (Argmax(), _classes),
    "argmax by row": (Argmax(exchangeable="none"), _classes),
    "top_k": (TopK(k=2), _classes),
    "positives over negatives": (PositivesOverNegatives(), _binary),
    "by row of classes": (PositivesOverNegatives(within="row"), _classes),
    "by row of labels": (PositivesOverNegatives(within="row", exchangeable="none"), _multilabel),
    "by column": (PositivesOverNegatives(within="column"), _multilabel),
    "by group": (PositivesOverNegatives(within="group"), _grouped),
    "ranking": (Ranking(), _graded),
    "ranking by group": (Ranking(within="group"), _grouped),
}


@pytest.fixture(params=CASES, name="case")
def _case(request):
    refactoring, data = CASES[request.param]
    return (refactoring, *data())


def _moves(refactoring, scores, targets, groups, **changed):
    options = {
        "groups": groups,
        "softness": torch.tensor(1.0).double(),
        "q": 1.0,
        "budget": 4096,
        "share": 1.0,
        "generator": _generator(),
    }
    moves = refactoring.moves(MoveRequest(scores, targets, **{**options, **changed}))
    return moves.entries() if isinstance(moves, LabelMoves | HitMoves) else moves


def test_every_comparison_is_right_at_ideal_scores(case):
    refactoring, scores, targets, groups = case
    for ideal in refactoring.ideal(scores, targets, 5, _generator(), groups=groups):
        assert refactoring.comparisons(ideal, targets, groups=groups).min() > 0


def test_ideal_sets_differ(case):
    refactoring, scores, targets, groups = case
    first, second = refactoring.ideal(scores, targets, 2, _generator(), groups=groups)
    assert not torch.equal(first, second)


def test_scores_from_realises_the_binaries_of_any_score_set(case):
    refactoring, scores, targets, groups = case
    for stack in refactoring.random(scores, targets, 5, _generator()):
        bits = refactoring.binaries(stack, targets, groups=groups)
        again = refactoring.scores_from(bits, scores, targets, groups=groups)
        assert torch.equal(refactoring.binaries(again, targets, groups=groups), bits)


def test_many_score_sets_are_what_each_is_by_itself(case):
    refactoring, scores, targets, groups = case
    stack = refactoring.random(scores, targets, 5, _generator())
    bits = torch.stack([refactoring.binaries(row, targets, groups=groups) for row in stack])
    assert torch.equal(refactoring.binaries_of(stack, targets, groups=groups), bits)
    bits ^= torch.rand(bits.shape, generator=_generator(1)) < 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cyclic ones
        each = torch.stack([refactoring.scores_from(row, scores, targets, groups=groups) for row in bits])
    assert torch.equal(refactoring.score_sets(bits, scores, targets, groups=groups), each)


def test_every_comparison_has_an_owner(case):
    refactoring, scores, targets, groups = case
    owners = refactoring.owners(scores, targets, groups=groups)
    assert owners.shape == refactoring.comparisons(scores, targets, groups=groups).shape
    assert owners.min() >= 0


def test_comparisons_are_differentiable(case):
    refactoring, scores, targets, groups = case
    scores = scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: refactoring.comparisons(s, targets, groups=groups), (scores,))


def test_squared_distances_equal_the_dense_definition(case):
    refactoring, scores, targets, groups = case
    anchors = score_anchors(refactoring, scores, targets, each=4, flips=2, generator=_generator(), groups=groups)
    softness = torch.tensor(0.7).double()
    found = refactoring.squared_distances(scores, targets, anchors, softness=softness, groups=groups)
    soft = (refactoring.comparisons(scores, targets, groups=groups) / softness).sigmoid()
    bits = torch.stack([refactoring.binaries(a, targets, groups=groups) for a in anchors]).double()
    torch.testing.assert_close(found, (soft - bits).square().sum(1), rtol=1e-6, atol=1e-6)


def test_expected_change_is_differentiable_and_right_to_autograd(case):
    refactoring, scores, targets, groups = case
    count = len(_moves(refactoring, scores, targets, groups).stack())
    changes = torch.randn(count, generator=_generator(), dtype=torch.float64)
    scores = scores.clone().requires_grad_()

    def change(s):
        return _moves(refactoring, s, targets, groups).change(changes)

    assert torch.autograd.gradcheck(change, (scores,))
    assert torch.autograd.gradgradcheck(change, (scores,))


def test_each_move_changes_one_score_of_where_they_start(case):
    refactoring, scores, targets, groups = case
    moves = _moves(refactoring, scores, targets, groups)
    stack = moves.stack()
    changed = (stack != moves.base[0]).reshape(len(stack), -1).sum(1)
    assert changed.max() <= 1


def test_a_small_budget_is_kept(case):
    refactoring, scores, targets, groups = case
    moves = _moves(refactoring, scores, targets, groups, budget=6)
    assert len(moves.stack()) <= 6
    assert torch.isfinite(moves.change(torch.ones(len(moves.stack())).double()))


def test_perturbed_moves_a_few_decisions(case):
    refactoring, scores, targets, groups = case
    ideal = refactoring.ideal(scores, targets, 3, _generator(), groups=groups)
    moved = refactoring.perturbed(ideal, targets, 2, _generator())
    assert moved.shape == ideal.shape
    assert ((moved != ideal).reshape(3, -1).sum(1) <= 2).all()


def test_expected_accuracy_at_q_one_is_the_mean_probability():
    scores, targets, _ = _classes()
    moves = _moves(Argmax(), scores, targets, None)
    current, *values = (torch.cat([moves.base, moves.stack()]).argmax(-1) == targets).double().mean(1)
    values = torch.stack(values)
    expected = scores.softmax(1).gather(1, targets[:, None]).mean()
    torch.testing.assert_close(current + moves.change(values - current), expected)


def test_moves_start_from_as_many_rows_of_each_class_as_the_probabilities_say():
    scores, targets, _ = _classes()
    base = _moves(Argmax(), scores, targets, None, softness=torch.tensor(1.5).double()).base[0]
    expected = (scores / 1.5).softmax(1).sum(0)
    assert ((base.argmax(1).bincount(minlength=scores.shape[1]) - expected).abs() < 3).all()
    sharp = _moves(Argmax(), scores, targets, None, softness=torch.tensor(1e-4).double()).base[0]
    assert torch.equal(sharp.argmax(1), scores.argmax(1))


def test_local_slopes_reproduce_a_metric_that_is_linear_in_counts():
    scores, targets, _ = _binary(60)

    def auroc(stack):
        positive, negative = stack[:, targets == 1], stack[:, targets == 0]
        return (positive[:, :, None] > negative[:, None, :]).double().mean((1, 2))

    moves = _moves(PositivesOverNegatives(), scores, targets, None)
    current = auroc(scores[None])[0]
    soft = (scores[targets == 1][:, None] - scores[targets == 0][None]).sigmoid().mean()
    torch.testing.assert_close(current + moves.change(auroc(moves.stack()) - current)[0], soft, rtol=1e-9, atol=1e-9)
    few = _moves(PositivesOverNegatives(), scores, targets, None, budget=8)
    torch.testing.assert_close(current + few.change(auroc(few.stack()) - current)[0], soft, rtol=1e-9, atol=1e-9)


def test_sampled_strata_keep_the_sum_unbiased():
    mass = torch.rand(200, generator=_generator(), dtype=torch.float64)
    values = torch.randn(200, generator=_generator(5), dtype=torch.float64)
    draws = []
    for seed in range(2000):
        index, weight = choose(mass, 20, _generator(seed))
        draws.append(float((mass[index] * values[index] * weight).sum()))
    draws = torch.tensor(draws)
    assert abs(draws.mean() - (mass * values).sum()) < 4 * draws.std() / 2000**0.5


def test_cyclic_binaries_give_the_nearest_ranking_and_say_so():
    scores, targets = torch.zeros(4), torch.tensor([1, 1, 0, 0])
    bits = torch.tensor([True, False, False, True])  # each positive beats the negative that beats the other positive
    with pytest.warns(UserWarning, match="cyclic"):
        PositivesOverNegatives().scores_from(bits, scores, targets)


def test_log_odds_of_a_column_never_saturate():
    scores = torch.tensor([[300.0, 0.0, 1.0], [301.0, 0.0, 1.0]]).double()
    values = as_lists(scores, torch.tensor([0, 1]), "column", None, odds=True).values.view(2, 3)
    assert values[1, 0] > values[0, 0]
    torch.testing.assert_close(values[0, 0], 300 - torch.tensor([0.0, 1.0]).double().logsumexp(0))


def test_released_anchors_flip_one_bit_and_correct_wrong_ones():
    current = torch.tensor([True, False, False, True, True])
    bits = bit_anchors(current, each=8, flips=3, released=True, generator=_generator())
    assert bits[0].all()
    assert ((~bits[1:9]).sum(1) == 1).all()
    nearby = bits[17:]
    assert ((nearby != current).sum(1) == 1).all()
    assert (nearby[:, current]).all()


def test_top_k_refuses_when_every_class_is_in_the_top():
    with pytest.raises(MetricgradError, match="always right"):
        TopK(k=5).comparisons(torch.zeros(2, 5), torch.zeros(2))
