"""The family against its equation by autograd, and cross-entropy inside it."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

import metricgrad as mg
from metricgrad.losses.base import CallContext
from metricgrad.losses.families.classification import RANGES, ClassificationFamily

AT = {"balance": 0.7, "exponent": 0.4, "focus": 1.3, "smoothing": 0.2, "adjustment": 0.8}


def _classes(n=40, c=5):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(n, c, generator=g, dtype=torch.float64) * 2
    return scores.requires_grad_(), (torch.rand(n, generator=g) ** 2 * c).long()


def _call(form, scores, targets, counts=True):
    return form(scores, targets, call=CallContext(0, 0, counts))


def _turned(form, at=AT):
    for name, knob in form.double().knobs().items():
        knob.parameter.fill_(at[name])
    return form


@pytest.mark.parametrize("turns", [tuple(RANGES), ("exponent",), ()])
def test_it_starts_at_cross_entropy_exactly(turns):
    scores, targets = _classes()
    value, plain = _call(ClassificationFamily(5, turns=turns), scores, targets), cross_entropy(scores, targets)
    torch.testing.assert_close(value, plain, rtol=1e-14, atol=0)
    ours, theirs = (torch.autograd.grad(v, scores)[0] for v in (value, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("shape", [(40,), (40, 3)])
def test_it_starts_at_binary_cross_entropy_exactly(shape):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()
    targets = (torch.rand(shape, generator=g) < 0.2).long()
    value = _call(ClassificationFamily(), scores, targets)
    plain = binary_cross_entropy_with_logits(scores, targets.double())
    torch.testing.assert_close(value, plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, scores)[0], torch.autograd.grad(plain, scores)[0], rtol=1e-12, atol=1e-17
    )


def test_it_is_its_equation():
    scores, targets = _classes()
    value = _call(_turned(ClassificationFamily(5)), scores, targets)
    rates = (torch.bincount(targets, minlength=5) + 1).double()
    rates = rates / rates.sum()
    p = (scores + AT["adjustment"] * rates.log()).softmax(1)
    right = p[range(len(p)), targets]
    g = (1 - p ** AT["exponent"]) / AT["exponent"]
    smooth = (1 - AT["smoothing"]) * one_hot(targets, 5).double() + AT["smoothing"] / 5
    weights = rates ** -AT["balance"] / (rates ** (1 - AT["balance"])).sum()
    expected = (weights[targets] * (1 - right) ** AT["focus"] * (smooth * g).sum(1)).mean()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (value, expected)), rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("turned", [(), *((name,) for name in RANGES), ("focus", "smoothing"), tuple(RANGES)])
@pytest.mark.parametrize("class_weights", [True, False])
def test_the_gradient_in_closed_form_is_that_of_autograd(turned, class_weights):
    """And differentiable itself; sure rows, right and wrong, among the others."""
    scores, targets = _classes()
    scores = torch.cat([scores.detach(), 60 * torch.eye(5, dtype=torch.float64)[[0, 1]]]).requires_grad_()
    targets = torch.cat([targets, torch.tensor([0, 2])])
    form = _turned(
        ClassificationFamily(5, class_weights=class_weights),
        dict.fromkeys(RANGES, 0.0) | {f"weight[{c}]": 0.2 * c for c in range(5)},
    )
    for name in turned:
        form.get_parameter(name).fill_(AT[name])
    (alone,) = torch.autograd.grad(_call(form, scores, targets, counts=False), scores)
    (by_autograd,) = torch.autograd.grad(form.of_checked(scores, targets), scores)
    torch.testing.assert_close(alone, by_autograd, rtol=1e-10, atol=1e-14)
    found = []
    for value in (_call(form, scores, targets, counts=False), form.of_checked(scores, targets)):
        (slope,) = torch.autograd.grad(value, scores, create_graph=True)
        (second,) = torch.autograd.grad(slope[0, 1], scores)
        found.append((value, slope, second))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_one_score_is_two_classes():
    """(N,) scores s with 0/1 targets are the rows (0, s) with two classes, whatever the knobs."""
    g = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(30, generator=g, dtype=torch.float64), (torch.rand(30, generator=g) < 0.3).long()
    one = _call(_turned(ClassificationFamily(1)), scores, targets)
    two = _call(_turned(ClassificationFamily(2)), torch.stack([torch.zeros(30).double(), scores], 1), targets)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


def test_gradcheck_in_scores_and_knobs():
    scores, targets = _classes(6, 3)
    form = _turned(ClassificationFamily(3))
    knobs = [k.parameter.requires_grad_() for k in form.knobs().values()]
    assert torch.autograd.gradcheck(lambda s, *_: _call(form, s, targets % 3, counts=False), (scores, *knobs))


def test_the_slope_in_the_exponent_at_zero_is_that_of_the_limit():
    scores, targets = _classes()
    form = ClassificationFamily(5, turns=("exponent",)).double()
    form.exponent.requires_grad_()
    (slope,) = torch.autograd.grad(_call(form, scores, targets), form.exponent)
    logs = scores.log_softmax(1).gather(1, targets[:, None])
    torch.testing.assert_close(slope, -(logs.square() / 2).mean(), rtol=1e-12, atol=0)


def test_balance_gives_every_class_the_same_say():
    targets = torch.tensor([0] * 90 + [1] * 10)
    scores = torch.zeros(100, 2, dtype=torch.float64, requires_grad=True)
    form = ClassificationFamily(2, turns=("balance",)).double()
    form.balance.fill_(1.0)
    form.counts[:, 1] = torch.tensor([89_999_910, 9_999_990])  # many batches of these rates
    (slope,) = torch.autograd.grad(_call(form, scores, targets), scores)
    torch.testing.assert_close(slope[:90].abs().sum(), slope[90:].abs().sum(), rtol=1e-6, atol=0)


def test_rates_are_counted_in_training_alone_and_travel_with_the_state():
    form, (scores, targets) = ClassificationFamily(), _classes()
    _call(form, scores, targets, counts=False)
    assert form.counts.shape == (0, 2)
    _call(form, scores, targets)
    assert int((form.counts - 1)[:, 1].sum()) == len(targets)
    other = ClassificationFamily()
    other.load_state_dict(form.state_dict())
    assert torch.equal(other.counts, form.counts)


def test_class_weights_weigh_classes():
    scores, targets = _classes(c=3)
    form = ClassificationFamily(3, turns=(), class_weights=True).double()
    knobs = form.knobs()
    assert list(knobs) == ["weight[0]", "weight[1]", "weight[2]"]
    knobs["weight[2]"].parameter.fill_(1.0)  # a view: the form's own parameter moves
    weights = torch.tensor([1.0, 1.0, torch.e], dtype=torch.float64)
    expected = (cross_entropy(scores, targets, reduction="none") * weights[targets]).mean()
    torch.testing.assert_close(_call(form, scores, targets), expected)


def test_project_brings_knobs_back():
    form = ClassificationFamily(3)
    form.exponent.fill_(7.0)
    form.balance.fill_(-1.0)
    form.project()
    assert float(form.exponent) == pytest.approx(0.95)
    assert float(form.balance) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClassificationFamily(turns=("focal",)), "focal"),
        (lambda: ClassificationFamily(turns="focus"), "focus"),
        (lambda: ClassificationFamily(0), "num_outputs"),
        (lambda: ClassificationFamily(40, class_weights=True), "class_weights"),
        (lambda: _call(ClassificationFamily(3), *_classes(c=5)), "num_outputs=3"),
    ],
)
def test_refusals_say_what_was_wrong(make, words):
    with pytest.raises(mg.MetricgradError, match=words):
        make()
