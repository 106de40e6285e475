"""A form on a base: its gradient is the stated composite, once and twice differentiated."""

import math

import pytest
import torch
from torch.func import functional_call

import metricgrad as mg
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Ramp
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.composite.residual import Residual
from metricgrad.losses.interpolated.linearized import Linearized
from metricgrad.losses.networks.neural import NeuralLoss

CALL = CallContext(0, 100, progress=0.3)


def batch(n=12, classes=4):
    g = torch.Generator().manual_seed(3)
    return torch.randn(n, classes, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g)


def stated(scores, targets, form, a, w, momentum, before):
    """The gradient by its definition, of a network on cross-entropy, with graph."""
    (base,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores, targets), scores, create_graph=True)
    (part,) = torch.autograd.grad(form.form(scores, targets, call=CALL), scores, create_graph=True)
    now = torch.stack([base.square().sum(), part.square().sum()])
    mean = now if before.isnan().any() else momentum * before + (1 - momentum) * now
    return a * base + w * form.log_weight.exp() * (mean[0] / mean[1]).sqrt() * part


def anchored(momentum=0.9, **options):
    return Anchored("cross_entropy", NeuralLoss(seed=1), momentum=momentum, **options).double()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("calls", [1, 2])
def test_the_gradient_is_the_stated_composite(momentum, calls):
    form, (scores, targets) = anchored(momentum, weight=(0, 1, 1), base_weight=0.5), batch()
    for number in range(calls):
        leaf = (scores + number).requires_grad_()
        before = form.squared_norms.clone()
        (found,) = torch.autograd.grad(form(leaf, targets, call=CALL), leaf)
        expected = stated(leaf, targets, form, 0.5, 0.3, momentum, before)
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_twice_differentiable_in_scores_and_parameters(momentum):
    form, (scores, targets) = anchored(momentum, weight=0.7), batch()
    form(scores.requires_grad_(), targets, call=CALL)  # the means hold something
    before = form.squared_norms.clone()
    phi = [p.requires_grad_() for p in form.parameters()]
    leaf, direction = scores.detach().requires_grad_(), torch.randn_like(scores)
    (first,) = torch.autograd.grad(form(leaf, targets, call=CALL), leaf, create_graph=True)
    found = torch.autograd.grad((first * direction).sum(), [leaf, *phi], allow_unused=True)
    same = scores.detach().requires_grad_()
    expected = torch.autograd.grad(
        (stated(same, targets, form, 1.0, 0.7, momentum, before) * direction).sum(), [same, *phi], allow_unused=True
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_that_were_swapped_in_are_those_that_are_differentiated():
    form, (scores, targets) = anchored(weight=0.7), batch()
    phi = {name: (2 * p.detach() + 0.1).requires_grad_() for name, p in form.named_parameters()}
    leaf = scores.requires_grad_()
    value = functional_call(form, phi, (leaf, targets), {"call": CALL})
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    found = torch.autograd.grad(slope.square().sum(), list(phi.values()), allow_unused=True)
    other = anchored(weight=0.7)
    other.load_state_dict({**other.state_dict(), **{name: p.detach() for name, p in phi.items()}})
    own = [p.requires_grad_() for p in other.parameters()]
    (slope,) = torch.autograd.grad(other(leaf, targets, call=CALL), leaf, create_graph=True)
    expected = torch.autograd.grad(slope.square().sum(), own, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", [anchored(weight=0.7), mg.AdaLFL(num_outputs=4).form.double()])
def test_the_directional_derivative_is_the_product_with_the_gradient(form):
    scores, targets = batch()
    tangent = torch.randn_like(scores)
    phi = [p.requires_grad_() for p in form.parameters()]
    for scale in (1.0, 3.0):  # the second time the norms of the first are remembered
        ours = form.directional_derivative(scores * scale, targets, tangent, call=CALL)
        leaf = (scores * scale).requires_grad_()
        (slope,) = torch.autograd.grad(form(leaf, targets, call=CALL), leaf, create_graph=True)
        torch.testing.assert_close(ours, (slope * tangent).sum())
        found, expected = (torch.autograd.grad(x, phi, allow_unused=True) for x in (ours, (slope * tangent).sum()))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    for p in phi:
        p.requires_grad_(False)


@pytest.mark.parametrize("metric", ["macro_f1", "quadratic_kappa"])
def test_the_parts_of_labels_are_the_gradients_of_their_losses(metric):
    form, (scores, targets) = Linearized(mg.as_metric(metric)), batch(40)
    leaf = scores.requires_grad_()
    parts = form.parts(leaf, targets, call=CALL)
    again = scores.detach().requires_grad_()
    for gradient, loss in zip(parts.gradients, parts.again(again), strict=True):
        torch.testing.assert_close(gradient, torch.autograd.grad(loss, again, retain_graph=True)[0])


@pytest.mark.parametrize("metric", ["f1", "average_precision", "recall_at_precision:precision=0.5"])
def test_the_parts_of_one_score_are_the_gradients_of_their_losses(metric):
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(40, generator=g, dtype=torch.float64), (torch.rand(40, generator=g) < 0.4).long()
    form = Linearized(mg.as_metric(metric))
    for _ in range(2):  # the second time with a memory
        leaf = scores.clone().requires_grad_()
        parts = form.parts(leaf, targets, call=CALL)
    again = scores.clone().requires_grad_()
    for gradient, loss in zip(parts.gradients, parts.again(again), strict=True):
        torch.testing.assert_close(
            gradient, torch.autograd.grad(loss, again, retain_graph=True)[0], rtol=1e-6, atol=1e-9
        )


def test_means_change_once_in_a_training_call_and_never_in_backward():
    form, (scores, targets) = anchored(), batch()
    form(scores.requires_grad_(), targets, call=CALL)
    kept = form.squared_norms.clone()
    (slope,) = torch.autograd.grad(
        form(scores, targets, call=CallContext(0, 0, counts=False)), scores, create_graph=True
    )
    slope.sum().backward()
    assert torch.equal(form.squared_norms, kept)
    form(2 * scores, targets, call=CALL)
    assert not torch.equal(form.squared_norms, kept)


def test_the_value_is_the_metrics_and_the_first_steps_are_the_bases():
    scores, targets = batch(64)
    loss = mg.UniLoss("accuracy")
    leaf = scores.requires_grad_()
    value = loss(leaf, targets)
    (slope,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(value, 1 - mg.as_metric("accuracy")(scores, targets).double())
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(leaf, targets), leaf)
    torch.testing.assert_close(slope, expected)


def test_progress_is_that_of_the_training_it_is_attached_to():
    model, targets = torch.nn.Linear(4, 4), torch.arange(8) % 4
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss, inputs, seen = mg.UniLoss("accuracy"), torch.randn(8, 4), []
    plain = Anchored.forward

    def watched(form, scores, targets, *, call, **context):
        seen.append(call.share)
        return plain(form, scores, targets, call=call, **context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Anchored, "forward", watched)
        handle = loss.attach(model, optimizer, total_steps=4)
        for _ in range(2):
            for micro in (slice(4), slice(4, 8)):  # two calls a step
                loss(model(inputs[micro]), targets[micro]).backward()
            optimizer.step()
        handle.detach()
        loss(model(inputs), targets)
    assert seen == [0.0, 0.0, 0.25, 0.25, 4 / 500]


def test_another_training_begins_at_its_beginning():
    loss, inputs, targets = mg.UniLoss("accuracy"), torch.randn(8, 4), torch.arange(8) % 4
    shares, norms = [], []
    for _ in range(2):
        model = torch.nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        handle = loss.attach(model, optimizer, total_steps=4)
        norms.append(loss.form.squared_norms.isnan().all())
        for _ in range(2):
            shares.append(loss._progress.share)
            loss(model(inputs), targets).backward()
            optimizer.step()
        handle.detach()
    assert shares == [0.0, 0.25, 0.0, 0.25]
    assert all(norms)


def test_a_training_whose_state_is_loaded_goes_on_with_another_optimiser():
    loss, inputs, targets = mg.UniLoss("accuracy"), torch.randn(8, 4), torch.arange(8) % 4
    model, shares, saved = torch.nn.Linear(4, 4), [], None
    for _ in range(2):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if saved is not None:
            loss.load_state_dict(saved)
        handle = loss.attach(model, optimizer, total_steps=4)
        shares.append(loss._progress.share)
        loss(model(inputs), targets).backward()
        optimizer.step()
        saved = loss.state_dict()
        handle.detach()
    assert shares == [0.0, 0.25]


def test_a_metric_of_ones_own_trains_as_the_built_in_one():
    scores, targets = batch(400)

    def kappa(labels, targets):
        return float(mg.as_metric("quadratic_kappa")(torch.nn.functional.one_hot(labels, 4).double(), targets))

    losses = [
        mg.UniLoss(m, weight=1.0)
        for m in ("quadratic_kappa", mg.as_metric(kappa, higher_is_better=True, reads="labels"))
    ]
    slopes = []
    for loss in losses:
        for _ in range(12):
            leaf = scores.clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss(leaf, targets), leaf)
        (base,) = torch.autograd.grad(torch.nn.functional.cross_entropy(leaf, targets), leaf)
        slopes.append(slope - (1 - 11 / 500) * base)
    assert torch.nn.functional.cosine_similarity(slopes[0].flatten(), slopes[1].flatten(), dim=0) > 0.95


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": "much"}, "weight is 'much'"), ({"weight": (0, 1)}, "start, end, by"), ({"weight": -1.0}, "weight"),
        ({"momentum": 1.0}, "momentum"), ({"base_weight": (1, 0, 2.0)}, "third number"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(MetricgradError, match=words):
        Anchored("cross_entropy", NeuralLoss(), **options)


def test_what_is_no_form_is_refused():
    with pytest.raises(MetricgradError, match="form is a CrossEntropyLoss"):
        Anchored("cross_entropy", torch.nn.CrossEntropyLoss())


def test_a_ramp_ends_where_it_says():
    ramp = Ramp(1.0, 0.1, 0.5)
    assert [ramp.at(u) for u in (0, 0.25, 0.5, 1)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_residual_counts_as_often_as_its_factor_says():
    scores, targets = batch()
    network = NeuralLoss(seed=2).double()
    value = Residual("cross_entropy", network, factor=10.0)(scores, targets, call=CALL)
    expected = torch.nn.functional.cross_entropy(scores, targets) + 10 * network(scores, targets, call=CALL)
    torch.testing.assert_close(value, expected)


def test_the_weight_is_a_knob_within_a_factor_of_ten():
    form = anchored()
    form.log_weight.fill_(9.0)
    form.project()
    assert float(form.log_weight) == pytest.approx(math.log(10))


class Counted(torch.nn.Module):
    """A mean squared error that says how often it was called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, scores, targets):
        self.calls += 1
        return (scores - targets).square().mean()


def test_a_base_of_no_weight_that_sets_no_size_is_not_computed():
    """Graded relevances train on the metric alone, at the size that it has."""
    base = Counted()
    form = Anchored(base, Linearized(mg.as_metric("ndcg")))
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(6, 5, generator=g, requires_grad=True), torch.arange(30).view(6, 5) % 4
    form(scores, targets, call=CALL).backward()
    assert base.calls == 0
    assert scores.grad.abs().sum() > 0
    assert form.squared_norms.isfinite().tolist() == [False, True, False]
    form(scores, (targets > 1).long(), call=CALL)  # what was graded once stays so
    assert base.calls == 0
    Anchored(base, Linearized(mg.as_metric("ndcg")), base_weight=1.0)(scores, targets, call=CALL)
    assert base.calls == 1
