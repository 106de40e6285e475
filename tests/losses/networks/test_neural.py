"""NeuralLoss against the paper's formula, its tangent by hand against double backward; Residual and LearnedRate."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.composite.residual import LearnedRate, Residual
from metricgrad.losses.networks.neural import NeuralLoss

CALL = CallContext(0, 0, counts=False)


def _batch(kind, n=7):
    generator = torch.Generator().manual_seed(2)
    if kind == "classification":
        return torch.randn(n, 4, generator=generator).double(), torch.randint(4, (n,), generator=generator)
    if kind == "multilabel":
        return torch.randn(n, 3, generator=generator).double(), torch.randint(2, (n, 3), generator=generator)
    scores = torch.randn(n, generator=generator).double()
    return scores, (torch.randint(2, (n,), generator=generator) if kind == "binary" else scores.flip(0) * 2)


KINDS = ["classification", "binary", "multilabel", "regression"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_papers_network_of_target_and_prediction(kind):
    form, (scores, targets) = NeuralLoss(kind=kind).double(), _batch(kind)
    form.gamma += torch.tensor([0.2, 0.1])
    form.beta -= torch.tensor([1.0, 7.0])
    if kind == "classification":
        target, prediction = nn.functional.one_hot(targets, 4).double(), scores.softmax(1)
    else:
        target, prediction = targets.double(), scores if kind == "regression" else scores.sigmoid()
    x = torch.stack([target, prediction], -1)
    for i, layer in enumerate(form.layers):
        x = x @ layer.weight.T + layer.bias
        if i < 2:
            x = (torch.exp(form.beta[i] * x) + 1).log() / form.beta[i] * (1 - form.gamma[i]) + form.gamma[i] * x
    torch.testing.assert_close(form(scores, targets, call=CALL), x.mean())


@pytest.mark.parametrize("output", ["none", "softplus"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tangent_by_hand_is_that_of_double_backward(kind, output):
    form, (scores, targets) = NeuralLoss(kind=kind, output=output).double(), _batch(kind)
    form.gamma += 0.2
    form.beta -= torch.tensor([3.0, 8.0])
    form.requires_grad_(True)
    tangent = torch.randn(scores.shape, dtype=torch.float64)
    ours = form.directional_derivative(scores, targets, tangent, call=CALL)
    slow = Form.directional_derivative(form, scores, targets, tangent, call=CALL)
    torch.testing.assert_close(ours, slow)
    for value, other in zip(
        *(torch.autograd.grad(v, list(form.parameters()), allow_unused=True) for v in (ours, slow)), strict=True
    ):
        if value is None or other is None:
            assert not any(g.any() for g in (value, other) if g is not None)
        else:
            torch.testing.assert_close(value, other)


def test_permuting_classes_and_rows_keeps_the_value():
    form, (scores, targets) = NeuralLoss(num_outputs=4).double(), _batch("classification")
    order, rows = torch.tensor([2, 0, 3, 1]), torch.randperm(7)
    renamed = order.argsort()[targets]
    expected = form(scores, targets, call=CALL)
    torch.testing.assert_close(form(scores[:, order], renamed, call=CALL), expected)
    torch.testing.assert_close(form(scores[rows], targets[rows], call=CALL), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_finds_the_kind_and_keeps_it(kind):
    form, batch = NeuralLoss(kind="auto").double(), _batch(kind)
    assert torch.equal(form(*batch, call=CALL), NeuralLoss(kind=kind).double()(*batch, call=CALL))
    other = NeuralLoss(kind="auto")
    other.load_state_dict(form.state_dict())
    assert int(other.settled) == KINDS.index(kind)


def test_softplus_is_never_negative():
    form, batch = NeuralLoss(output="softplus").double(), _batch("classification")
    form.layers[-1].bias.fill_(-20)
    assert 0 < form(*batch, call=CALL) < 1e-6


def test_a_mask_leaves_rows_out():
    form, (scores, targets) = NeuralLoss().double(), _batch("classification")
    mask = torch.arange(7) != 3
    expected = form(scores[mask], targets[mask], call=CALL)
    torch.testing.assert_close(form(scores, targets, call=CALL, mask=mask), expected)


@pytest.mark.parametrize(
    ("options", "batch", "says"),
    [
        ({"kind": "ordinal"}, None, "expected one of"),
        ({"output": "relu"}, None, "'none' or 'softplus'"),
        ({"num_outputs": 0}, None, "1 or more"),
        ({"num_outputs": 5}, _batch("classification"), "num_outputs=5"),
        ({"kind": "binary"}, _batch("classification"), "kind='classification'"),
        ({"kind": "classification"}, _batch("multilabel"), "multilabel"),
        ({"kind": "regression"}, _batch("classification"), "kind='classification'"),
    ],
)
def test_what_does_not_fit_is_refused(options, batch, says):
    with pytest.raises(mg.MetricgradError, match=says):
        NeuralLoss(**options)(*batch, call=CALL)


def test_a_residual_starts_as_its_base_and_a_rate_of_one_is_the_base():
    for kind in KINDS:
        scores, targets = _batch(kind)
        expected = TaskLoss(kind)(scores, targets)
        torch.testing.assert_close(LearnedRate()(scores, targets, call=CALL), expected)
        torch.testing.assert_close(Residual()(scores, targets, call=CALL), expected, atol=0.02, rtol=0)


def test_a_base_that_is_none_is_refused():
    with pytest.raises(mg.MetricgradError, match="base is 'hinge'"):
        Residual("hinge")
    with pytest.raises(mg.MetricgradError, match="cannot be saved"):
        Residual(nn.CrossEntropyLoss()).config()


def test_a_metric_can_be_the_base():
    scores, targets = _batch("classification")
    loss = mg.Loss(Residual(mg.UniLoss("accuracy", softness=1.0)))
    base = mg.UniLoss("accuracy", softness=1.0)(scores, targets)
    torch.testing.assert_close(loss(scores, targets), base, atol=0.02, rtol=0)
