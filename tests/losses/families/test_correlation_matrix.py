"""The matrix against the paper's equation, and what bounding it changes."""

import pytest
import torch
from torch.nn.functional import one_hot

import metricgrad as mg
from metricgrad.losses.base import CallContext
from metricgrad.losses.families.correlation_matrix import DOMINANCE, CorrelationMatrix, log_of_the_rest


def _batch(n=30, c=4):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(n, c, generator=g, dtype=torch.float64).requires_grad_()
    return scores, torch.randint(c, (n,), generator=g)


def _shaken(form, size=0.6):
    g = torch.Generator().manual_seed(1)
    for knob in form.double().knobs().values():
        knob.parameter.add_(torch.randn((), generator=g, dtype=torch.float64) * size)
    return form


def _call(form, scores, targets):
    return form(scores, targets, call=CallContext(0, 0))


@pytest.mark.parametrize("rank", [None, 2])
def test_it_starts_as_the_identity(rank):
    scores, targets = _batch()
    p = scores.softmax(1).gather(1, targets[:, None])
    literal = CorrelationMatrix(4, bounded=False, rank=rank).double()
    bounded = CorrelationMatrix(4, rank=rank).double()
    assert torch.equal(literal.matrix(), torch.eye(4).double())
    torch.testing.assert_close(_call(literal, scores, targets), (-p / (1 + p)).mean())
    torch.testing.assert_close(_call(bounded, scores, targets), (0.5 - p / (1 + p)).mean())


@pytest.mark.parametrize("rank", [None, 2])
def test_literal_is_the_papers_equation(rank):
    scores, targets = _batch()
    form = _shaken(CorrelationMatrix(4, bounded=False, rank=rank))
    phi, y = form.matrix(), one_hot(targets, 4).double()
    assert torch.equal(phi, phi.T)
    expected = -torch.sigmoid(((y @ phi) * scores.softmax(1).log()).sum(1)).mean()
    value = _call(form, scores, targets)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (value, expected)))


@pytest.mark.parametrize("rank", [None, 2])
def test_bounded_is_its_equation(rank):
    scores, targets = _batch()
    form = _shaken(CorrelationMatrix(4, rank=rank))
    phi, p = form.matrix()[targets], scores.softmax(1)
    assert (phi < 0).any()
    inside = torch.where(phi > 0, phi * p.log(), phi.abs() * (1 - p).log()).sum(1)
    expected, value = (0.5 - inside.sigmoid()).mean(), _call(form, scores, targets)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, scores)[0] for v in (value, expected)))


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("rank", [None, 1])
def test_gradcheck_in_scores_and_parameters(bounded, rank):
    scores, targets = _batch(5)
    form = _shaken(CorrelationMatrix(4, bounded=bounded, rank=rank)).requires_grad_()
    inputs = (scores, *form.parameters())
    assert torch.autograd.gradcheck(lambda s, *_: _call(form, s, targets), inputs)


def test_the_literal_form_pays_for_wrong_answers_and_the_bounded_one_does_not():
    """Phi_01 = -1: the literal loss of class 0 is best where p_1 vanishes, though p_0 does too."""
    hopeless = torch.tensor([[-30.0, -90.0, 30.0]], dtype=torch.float64)
    right = torch.tensor([[5.0, 0.0, 0.0]], dtype=torch.float64)
    targets, values = torch.tensor([0]), {}
    for bounded in (False, True):
        form = CorrelationMatrix(3, bounded=bounded).double()
        form.knobs()["phi[0,1]"].parameter.fill_(-1.0)
        form.project()
        values[bounded] = [_call(form, s, targets).item() for s in (hopeless, right)]
    assert values[False][0] < values[False][1]
    assert values[True][0] > values[True][1] + 0.4


def _trained_accuracy(bounded):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (400,), generator=g)
    inputs = torch.randn(400, 4, generator=g) + 3 * one_hot(targets, 4)
    form = CorrelationMatrix(4, bounded=bounded)
    for name in ("phi[0,1]", "phi[0,2]", "phi[1,2]"):
        form.knobs()[name].parameter.fill_(-1.0)
    form.project()
    model = torch.nn.Linear(4, 4)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        _call(form, model(inputs), targets).backward()
        optimizer.step()
    return float((model(inputs).argmax(1) == targets).float().mean())


def test_training_collapses_with_the_literal_form_alone():
    """Three classes push each other away; only the literal form is content to call everything the fourth."""
    assert _trained_accuracy(bounded=False) < 0.5
    assert _trained_accuracy(bounded=True) > 0.85


@pytest.mark.parametrize("rank", [None, 2, 5])
def test_projection_keeps_every_row_led_by_its_diagonal(rank):
    form = _shaken(CorrelationMatrix(5, rank=rank), size=2.0)
    form.project()
    phi = form.matrix()
    diagonal = phi.diagonal()
    assert (diagonal > 0).all()
    assert (phi.abs().sum(1) - diagonal <= DOMINANCE * diagonal + 1e-9).all()
    kept = phi.clone()
    form.project()
    torch.testing.assert_close(form.matrix(), kept)


def test_project_leaves_an_allowed_matrix_alone():
    form = CorrelationMatrix(3)
    form.knobs()["phi[0,2]"].parameter.fill_(0.25)
    kept = form.free.clone()
    form.project()
    assert torch.equal(form.free, kept)
    assert float(form.matrix()[2, 0]) == 0.25


def test_warm_up_is_cross_entropy():
    scores, targets = _batch()
    form = CorrelationMatrix(4, warm_up=2)
    values = [form(scores, targets, call=CallContext(0, step)).item() for step in (0, 1, 2)]
    plain = torch.nn.functional.cross_entropy(scores, targets).item()
    assert values[:2] == [plain, plain]
    assert values[2] < 0.5


def test_log_of_the_rest_is_exact_at_both_ends():
    logs = torch.tensor([[-1e-20, -700.0], [-0.4, -0.6]], dtype=torch.float64)
    expected = torch.tensor([[-46.0517018598809, -9.85967654375977e-305], [-1.1096, -0.7959]], dtype=torch.float64)
    torch.testing.assert_close(log_of_the_rest(logs), expected, rtol=1e-4, atol=0)
    assert torch.isfinite(log_of_the_rest(torch.zeros(1)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CorrelationMatrix(1), "num_outputs"),
        (lambda: CorrelationMatrix(3, rank=4), "rank"),
        (lambda: CorrelationMatrix(3, warm_up=-1), "warm_up"),
        (lambda: _call(CorrelationMatrix(3), *_batch(c=4)), "num_outputs=3"),
        (lambda: _call(CorrelationMatrix(3), torch.zeros(4), torch.zeros(4)), "ClassificationFamily"),
    ],
)
def test_refusals_say_what_was_wrong(make, words):
    with pytest.raises(mg.MetricgradError, match=words):
        make()
