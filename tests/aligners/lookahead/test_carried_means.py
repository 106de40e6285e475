"""What a loss keeps from call to call: exact where nothing of it depends on its parameters, said where it does."""

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.networks.neural import NeuralLoss
from tests.aligners.lookahead.steps import VALID, Case, check, mlp, sgd


def accumulated(run):
    run.optimizer.zero_grad()
    for part in (0, 1):
        (run.value(part) / 2).backward()
    run.optimizer.step()


def added(run):
    run.optimizer.zero_grad()
    ((run.value(0) + run.value(1)) / 2).backward()
    run.optimizer.step()


def once(run):
    run.optimizer.zero_grad()
    run.value().backward()
    run.optimizer.step()


def anchored(momentum):
    return Anchored("task", NeuralLoss(3), weight=1.0, momentum=momentum)


SAYS = r"called more than once before the step, and it keeps"
CASES = {
    "one call": Case(once, form=lambda: anchored(0.9)),
    "parts": Case(accumulated, form=lambda: anchored(0.9), says=SAYS),
    "a sum": Case(added, form=lambda: anchored(0.9), says=SAYS),
    "within a mix": Case(accumulated, form=lambda: Mix([NeuralLoss(3), anchored(0.9)]), says=SAYS),
    "parts, without means": Case(accumulated, form=lambda: anchored(0.0)),
    "AdaLFL": Case(accumulated, form=lambda: mg.AdaLFL(num_outputs=3).form),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_means_of_norms_are_looked_through_or_said(case):
    check(case)


def test_a_window_over_them_is_refused():
    model = mlp().double()
    for momentum, refused in ((0.9, True), (0.0, False)):
        loss = mg.Loss(anchored(momentum).double(), LookAhead(steps=2))
        if not refused:
            loss.attach(model, sgd(model.parameters()), valid=[VALID]).detach()
            continue
        with pytest.raises(mg.MetricgradError, match=r"mean size of its gradients; make it with Anchored\(..., moment"):
            loss.attach(model, sgd(model.parameters()), valid=[VALID])


def test_the_second_derivative_is_that_of_the_gradient_and_not_symmetric():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(9, 3, generator=g, dtype=torch.float64), torch.arange(9) % 3
    loss = mg.UniLoss("macro_f1")
    loss(scores.clone().requires_grad_(), targets)
    loss.eval()
    loss.progress = 0.5

    def slope(at, create_graph=False):
        return torch.autograd.grad(loss(at, targets), at, create_graph=create_graph)[0]

    leaf = scores.clone().requires_grad_()
    rows = [torch.autograd.grad(each, leaf, retain_graph=True)[0].flatten() for each in slope(leaf, True).flatten()]
    jacobian, found = torch.stack(rows), []
    for along in torch.eye(27, dtype=torch.float64).view(27, 9, 3):
        ahead, back = (slope((scores + sign * 1e-5 * along).requires_grad_()) for sign in (1, -1))
        found.append(((ahead - back) / 2e-5).flatten())
    torch.testing.assert_close(jacobian, torch.stack(found, 1), rtol=1e-6, atol=1e-9)
    assert float((jacobian - jacobian.T).norm() / jacobian.norm()) > 1e-3  # g is the gradient of no function
