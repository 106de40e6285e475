"""Losses of embeddings against listed triplets, against pytorch-metric-learning, and at their edges."""

import json
import math

import pytest
import torch

import metricgrad as mg
from metricgrad.comparison.catalogue import space_of
from metricgrad.losses.base import CallContext
from metricgrad.losses.distances import distances
from metricgrad.losses.families.distance_mixture import WEIGHTS, DistanceMixture
from metricgrad.losses.families.focal_weighting import FocalWeighting
from metricgrad.refactoring.neighbours import Neighbours
from metricgrad.systems.by_name import make_loss

FORMS = {
    "triplet": DistanceMixture,
    "margin": DistanceMixture.margin_loss,
    "mixture": lambda: DistanceMixture(triplet=0.7, pull=0.5, push=1.5, draw=0.3, repel=1.9),
    "focal": FocalWeighting,
    "focal hinges": FocalWeighting.margin_loss,
}


@pytest.fixture(params=FORMS, name="form")
def _form(request):
    return FORMS[request.param]()


def _draw(n=18, d=4, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g)


def _call(form, scores, targets, **context):
    return form(scores, targets, call=CallContext(0, 0), **context)


def _triplets(scores, targets):
    unit = scores / scores.norm(dim=1, keepdim=True)
    n = range(len(targets))
    found = [(a, p, m) for a in n for p in n for m in n if a != p and targets[a] == targets[p] != targets[m]]
    a, p, m = torch.tensor(found).T
    return (unit[a] - unit[p]).norm(dim=1), (unit[a] - unit[m]).norm(dim=1)


def _listed(form, scores, targets):
    near, far = _triplets(scores, targets)
    hinge = (near - far + form.margin).relu()
    pull, push = (near - form.boundary + form.slack).relu(), (form.boundary + form.slack - far).relu()
    weight = form.start
    return (
        weight["triplet"] * hinge.sum() / (hinge > 0).sum().clamp(min=1)
        + (weight["pull"] * pull.sum() + weight["push"] * push.sum())
        / ((pull > 0).sum() + (push > 0).sum()).clamp(min=1)
        + weight["draw"] * near.square().mean() / 4
        + weight["repel"] * (-far.square()).exp().mean()
    )


@pytest.mark.parametrize("name", ["triplet", "margin", "mixture"])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_those_of_listed_triplets(name, seed):
    form = FORMS[name]()
    scores, targets = _draw(seed=seed)
    scores.requires_grad_()
    expected, found = _listed(form, scores, targets), _call(form, scores, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (found, expected)))


def test_focal_weighting_is_the_papers_formula():
    scores, targets = _draw()
    scores.requires_grad_()
    form = FocalWeighting(a=3.0, b=7.0)
    unit = scores / scores.norm(dim=1, keepdim=True)
    pairs = [(i, j) for i in range(18) for j in range(18) if i != j]
    gap = torch.stack([(unit[i] - unit[j]).norm() for i, j in pairs]) - 1
    same = torch.tensor([bool(targets[i] == targets[j]) for i, j in pairs])
    expected = (1 + (3 * gap[same]).exp()).log().mean() / 3 + (1 + (-7 * gap[~same]).exp()).log().mean() / 7
    found = _call(form, scores, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (found, expected)))


@pytest.mark.parametrize("seed", range(3))
def test_with_the_hardest_knobs_focal_weighting_is_the_margin_loss(seed):
    """To the last digit of float64, and as the mixture has it where every class has as many rows."""
    scores, targets = _draw(seed=seed)[0].requires_grad_(), torch.arange(18) % 3
    form, mixture = FocalWeighting.margin_loss(boundary=1.1), DistanceMixture.margin_loss(boundary=1.1)
    batch = distances(scores, targets)
    hinges = [(batch.values[batch.same] - (1.1 - 0.2)).relu(), (1.1 + 0.2 - batch.values[~batch.same]).relu()]
    expected, found = sum(hinge.mean() for hinge in hinges), _call(form, scores, targets)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(v, scores, retain_graph=True)[0] for v in (found, expected)))
    near, far = _triplets(scores, targets)
    above = int((near > 0.9).sum() + (far < 1.3).sum())
    over_active = _call(mixture, scores, targets) * above / len(near)
    torch.testing.assert_close(found, over_active, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (found, over_active)))


def test_focal_weighting_tends_to_its_hinges_and_its_knobs_have_their_slopes():
    scores, targets = _draw()
    form = FocalWeighting(a=2.0, b=2.0)
    exact = float(_call(FocalWeighting(a=None, b=None), scores, targets))
    gaps = []
    for sharpness in (10, 100, 1000):
        for knob in form.knobs().values():
            knob.parameter.fill_(sharpness / (1 + sharpness))
        gaps.append(float(_call(form, scores, targets)) - exact)
    assert 0 < gaps[2] < gaps[1] < gaps[0] < 2 * math.log(2) / 10
    assert gaps[2] < 1e-4
    knobs = [torch.tensor(h, dtype=torch.float64, requires_grad=True) for h in (0.3, 0.9)]

    def of(near, far):
        state = {"near_hardness": near, "far_hardness": far}
        return torch.func.functional_call(form, state, (scores, targets), {"call": CallContext(0, 0)})

    assert torch.autograd.gradcheck(of, knobs)
    assert torch.isfinite(torch.stack(torch.autograd.grad(of(*(k * 0 + 1 for k in knobs)), knobs))).all()


def _on_circle(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_no_focal_weighting_is_the_triplet_loss():
    """Narrow classes that lie close and wide ones far apart: nothing for triplets, something for every alpha."""
    targets = torch.tensor([0, 0, 1, 1])
    narrow, wide = _on_circle(0, 0, 30, 30), _on_circle(0, 60, 180, 240)
    for scores in (narrow, wide):
        assert float(_call(DistanceMixture(margin=0.2), scores, targets)) == 0
    for alpha in torch.linspace(0.05, 2, 40).tolist():
        for sharpness in (0.1, 4.0, None):
            form = FocalWeighting(a=sharpness, b=sharpness, alpha=alpha)
            assert float(_call(form, narrow, targets) + _call(form, wide, targets)) > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_pytorch_metric_learning_has_the_same_triplet_and_margin_losses(seed):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    scores, targets = _draw(seed=seed)
    for form, theirs in (
        (DistanceMixture(margin=0.3), losses.TripletMarginLoss(margin=0.3)),
        (DistanceMixture.margin_loss(boundary=1.1, slack=0.15), losses.MarginLoss(margin=0.15, beta=1.1)),
    ):
        torch.testing.assert_close(_call(form, scores, targets), theirs(scores, targets))


def test_gradients_of_both_orders(form):
    scores, targets = _draw(n=7, classes=2)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: _call(form, s, targets), (scores,))
    assert torch.autograd.gradgradcheck(lambda s: _call(form, s, targets), (scores,))


def test_a_batch_without_triplets_costs_nothing(form):
    for targets in ([], [4], [0, 1, 2], [5, 5, 5]):
        scores = torch.randn(len(targets), 3, requires_grad=True)
        value = _call(form, scores, torch.tensor(targets, dtype=torch.long))
        value.backward()
        assert float(value.detach()) == 0
        assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_embeddings_that_coincide_have_a_finite_gradient(form):
    for scores in (torch.ones(6, 3), torch.zeros(6, 3), 1 + 1e-7 * torch.randn(6, 3)):
        scores.requires_grad_()
        value = _call(form, scores, torch.arange(6) % 2)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(scores.grad).all()


def test_masked_rows_are_left_out_and_length_does_not_matter(form):
    scores, targets = _draw()
    kept = torch.arange(18) % 3 > 0
    expected = _call(form, scores[kept], targets[kept])
    torch.testing.assert_close(_call(form, scores, targets, mask=kept), expected)
    torch.testing.assert_close(_call(form, 7 * scores[kept], targets[kept] + 90), expected)


def test_knobs_are_bounded_steer_the_value_and_travel_with_the_state(form):
    scores, targets = _draw()
    before = _call(form, scores, targets)
    for knob in form.knobs().values():
        assert knob.low <= float(knob.parameter) <= knob.high
        assert knob.parameter.ndim == 0
        assert not knob.parameter.requires_grad
        old = knob.parameter.clone()
        knob.parameter.fill_(knob.high if old < knob.high else knob.low)
        assert not torch.equal(_call(form, scores, targets), before)
        other = type(form)(**json.loads(json.dumps(form.config())))
        torch.testing.assert_close(_call(other, scores, targets), before)
        other.load_state_dict(form.state_dict())
        assert torch.equal(_call(other, scores, targets), _call(form, scores, targets))
        knob.parameter.copy_(old)


def test_the_family_holds_its_members_as_points_of_its_knobs():
    scores, targets = _draw()
    form = DistanceMixture()
    for name, weight in zip(WEIGHTS, (0, 1, 1, 0, 0), strict=True):
        form.knobs()[name].parameter.fill_(weight)
    assert torch.equal(_call(form, scores, targets), _call(DistanceMixture.margin_loss(), scores, targets))


def test_hand_made_triplets():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 0, 1])
    # anchor 0: d_ap = sqrt 2, d_an = 2; anchor 1: both sqrt 2
    total, count = distances(embeddings, targets).triplet_hinge(1.0)
    assert float(total) == pytest.approx((math.sqrt(2) - 2 + 1) + 1)
    assert int(count) == 2


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: DistanceMixture(pull=3.0), "pull"),
        (lambda: DistanceMixture(margin=0), "margin"),
        (lambda: DistanceMixture(repel=-1), "repel"),
        (lambda: FocalWeighting(a=0.01), "a"),
        (lambda: FocalWeighting(b=math.inf), "b"),
        (lambda: FocalWeighting(slack=-1), "slack"),
        (lambda: FocalWeighting(alpha=0), "alpha"),
        (lambda: distances(torch.randn(4, 2), torch.rand(4)), "a loss of embeddings"),
        (lambda: distances(torch.randn(4), torch.arange(4)), "a loss of embeddings"),
    ],
)
def test_bad_arguments_are_named(make, name):
    with pytest.raises(mg.MetricgradError, match=f"^{name} "):
        make()


def test_the_blind_control_of_embeddings_is_the_mean_sigmoid_of_their_comparisons():
    scores, targets = _draw()
    blind = make_loss("margin:softness=0.1", "map_at_r")
    expected = (-Neighbours().comparisons(scores, targets) / 0.1).sigmoid().mean()
    torch.testing.assert_close(blind(scores, targets), expected)
    assert space_of("uniloss", mg.as_metric("map_at_r"))["softness"].default < 0.1
    assert space_of("margin", mg.as_metric("f1"))["softness"].default == 1
    with pytest.raises(mg.MetricgradError, match="between is 'rows'"):
        make_loss("margin:between=rows", "map_at_r")
