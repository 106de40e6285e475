"""The refactoring of metrics of embeddings: comparisons on the similarity matrix, and UniLoss through it."""

import pytest
import torch

import metricgrad as mg
from metricgrad.functional.cosines import off_diagonal, unit_rows
from metricgrad.refactoring.anchors import score_anchors
from metricgrad.refactoring.neighbours import Neighbours

METRICS = ["retrieval_recall:k=1", "retrieval_recall:k=4", "map_at_r"]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _draw(n=24, d=4, classes=5, seed=1):
    g = _generator(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g) * 3


def test_the_matrix_without_its_diagonal_keeps_every_other_entry():
    matrix = torch.arange(2 * 16.0).reshape(2, 4, 4)
    expected = torch.stack([m[~torch.eye(4).bool()].reshape(4, 3) for m in matrix])
    assert torch.equal(off_diagonal(matrix), expected)
    assert off_diagonal(matrix[:, :1, :1]).shape == (2, 1, 0)
    assert off_diagonal(matrix[:, :0, :0]).shape == (2, 0, 0)


def test_rows_of_zeros_have_no_direction_and_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    unit_rows(x).sum().backward()
    assert torch.equal(x.grad[0], torch.zeros(2))
    assert torch.isfinite(x.grad).all()


def test_comparisons_are_those_of_a_loop_and_differentiable():
    scores, targets = _draw(n=9, classes=3)
    unit = scores / scores.norm(dim=1, keepdim=True)
    expected = [
        float(unit[i] @ unit[p] - unit[i] @ unit[m])
        for i in range(9)
        for p in range(9)
        for m in range(9)
        if p != i and m != i and targets[p] == targets[i] != targets[m]
    ]
    found = Neighbours().comparisons(scores, targets)
    torch.testing.assert_close(found, torch.tensor(expected).double())
    assert torch.autograd.gradcheck(lambda s: Neighbours().comparisons(s, targets), (scores.requires_grad_(),))


@pytest.mark.parametrize(("d", "classes"), [(2, 20), (3, 12), (8, 5)])
def test_every_comparison_is_right_at_ideal_embeddings(d, classes):
    scores, targets = _draw(40, d, classes)
    ideal = Neighbours().ideal(scores.float(), targets, 4, _generator())
    assert not torch.equal(ideal[0], ideal[1])
    for each in ideal:
        assert Neighbours().comparisons(each, targets).min() > 0
        for spec in METRICS:
            assert float(mg.as_metric(spec)(each, targets)) == 1


def test_scores_from_comes_back_where_it_can_and_says_so_where_it_cannot():
    scores, targets = _draw(12, 11, 3)
    refactoring = Neighbours()
    for wanted in (scores, refactoring.ideal(scores, targets, 1, _generator())[0]):
        bits = refactoring.binaries(wanted, targets)
        again = refactoring.scores_from(bits, scores, targets)
        assert again.shape == scores.shape
        assert torch.equal(refactoring.binaries(again, targets), bits)
    bits = refactoring.binaries(scores, targets)
    torch.manual_seed(0)
    blind = torch.rand(len(bits)) > 0.5
    with pytest.warns(UserWarning, match="not realised"):
        near = refactoring.scores_from(blind, scores, targets)
    agreement = (refactoring.binaries(near, targets) == blind).double().mean()
    assert agreement > 0.65
    few = scores[:, :2]
    with pytest.warns(UserWarning, match="not realised"):
        assert refactoring.scores_from(blind, few, targets).shape == few.shape


def test_squared_distances_and_anchors_work_on_sets_of_embeddings():
    scores, targets = _draw(10, 3, 3)
    anchors = score_anchors(Neighbours(), scores, targets, each=3, flips=2, generator=_generator())
    assert anchors.shape == (10, *scores.shape)
    near = anchors[-3:]
    assert ((near != scores).any(-1).sum(1) <= 2).all()
    found = Neighbours().squared_distances(scores, targets, anchors, softness=torch.tensor(0.5).double())
    soft = (Neighbours().comparisons(scores, targets) / 0.5).sigmoid()
    bits = torch.stack([Neighbours().binaries(a, targets) for a in anchors]).double()
    torch.testing.assert_close(found, (soft - bits).square().sum(1))


def test_spread_is_the_mean_absolute_comparison():
    scores, targets = _draw()
    expected = Neighbours().comparisons(scores, targets).abs().mean()
    torch.testing.assert_close(Neighbours().spread(scores, targets), expected)
    assert float(Neighbours().spread(scores, torch.zeros_like(targets))) == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_uniloss_is_zero_when_ideal_and_positive_elsewhere(metric, interpolation):
    scores, targets = _draw(30, 8, 5)
    loss = mg.UniLoss(metric, interpolation=interpolation, softness=0.02)
    classes = torch.eye(8).double()[targets // 3].requires_grad_()
    value = loss(classes, targets)
    (gradient,) = torch.autograd.grad(value, classes)
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max() < 1e-6
    scores.requires_grad_()
    value = loss(scores, targets)
    (gradient,) = torch.autograd.grad(value, scores)
    assert value > 0.05
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 1e-6
    # length is no information: the gradient has no part along an embedding
    assert (gradient * scores).sum(1).abs().max() < 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_of_uniloss_is_that_of_its_value(metric):
    scores, targets = _draw(12, 4, 3)
    loss = mg.UniLoss(metric, softness=0.4).eval()
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (scores.requires_grad_(),), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_batches_with_nothing_to_compare_cost_nothing(metric):
    loss = mg.UniLoss(metric)
    for n, targets in ((0, []), (1, [3]), (4, [0, 1, 2, 3]), (4, [7, 7, 7, 7])):
        scores = torch.randn(n, 3, requires_grad=True)
        value = loss(scores, torch.tensor(targets, dtype=torch.long))
        value.backward()
        assert float(value) == 0
        assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_what_cannot_be_trained_on_says_why():
    scores, targets = torch.randn(8, 3, requires_grad=True), torch.arange(8) % 2
    with pytest.raises(mg.MetricgradError, match="clusters found anew"):
        mg.UniLoss("nmi")(scores, targets)

    def own(embeddings, targets):
        return (embeddings[:, 0] * targets).sum()

    foreign = mg.as_metric(own, reads="embeddings", higher_is_better=True)
    with pytest.raises(mg.MetricgradError, match=r"refactoring=Neighbours\(\)"):
        mg.UniLoss(foreign)(scores, targets)
    with pytest.raises(mg.MetricgradError, match="interpolation='inverse_distance'"):
        mg.UniLoss(foreign, Neighbours())(scores, targets)
    assert torch.isfinite(mg.UniLoss(foreign, Neighbours(), interpolation="inverse_distance")(scores, targets))
    with pytest.raises(mg.MetricgradError, match="warm_up"):
        mg.UniLoss("map_at_r", warm_up=3)
    with pytest.raises(mg.MetricgradError, match="reads embeddings"):
        mg.UniLoss("map_at_r")(torch.randn(8, requires_grad=True), targets)


def test_infer_knows_it():
    found = mg.infer_refactoring(mg.as_metric("map_at_r"), torch.randn(8, 3), torch.arange(8) % 2)
    assert found.name == "neighbours"
    assert "described" in found.report()
