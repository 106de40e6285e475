"""The memory of a loss: bounded, in its state, and of one training's data."""

import pytest
import torch
from torch import nn

import metricgrad as mg


def _share_right(labels, targets):
    return (labels == targets).double().mean()


CASES = {
    "labels": (lambda: mg.UniLoss("accuracy", memory=40), 3),
    "list": (lambda: mg.UniLoss("average_precision", memory=40), 1),
    "in a mix": (
        lambda: mg.Loss(mg.forms.Mix([mg.UniLoss("accuracy", memory=40).form, mg.UniLoss("macro_f1", memory=40).form])),
        3,
    ),
    "foreign": (lambda: mg.UniLoss(mg.as_metric(_share_right, higher_is_better=True, reads="labels"), memory=40), 3),
}


def _remembered(loss: mg.Loss) -> list[torch.Tensor]:
    state = loss.state_dict()
    return [state[name] for name in state if name.endswith(".rows") or name.endswith("utilities.seen")]


def _steps(loss: mg.Loss, outputs: int, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    handle = loss.attach(model, optimizer)
    for _ in range(5):
        scores = model(torch.randn(12, 4))
        loss(scores[:, 0] if outputs == 1 else scores, torch.arange(12) % max(outputs, 2)).backward()
        optimizer.step()
    handle.detach()


@pytest.mark.parametrize("name", CASES)
def test_it_is_bounded_goes_on_and_is_forgotten_with_another_training(name):
    make, outputs = CASES[name]
    torch.manual_seed(0)
    loss, model = make(), nn.Linear(4, outputs)
    first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    _steps(loss, outputs, first, model)
    held = _remembered(loss)
    assert any(bool(part.any()) for part in held)
    assert max(part.shape[-1] for part in held) == 40

    # attached again to the same optimiser, or loaded, it goes on
    loss.attach(model, first).detach()
    resumed = make()
    resumed.load_state_dict(loss.state_dict())
    resumed.attach(model, second).detach()
    for part, again, loaded in zip(held, _remembered(loss), _remembered(resumed), strict=True):
        assert torch.equal(part, again)
        assert torch.equal(part, loaded)

    loss.attach(model, second).detach()
    assert not any(bool(part.any()) for part in _remembered(loss))
    _steps(loss, outputs, second, model)
    assert any(bool(part.any()) for part in _remembered(loss))


def test_decisions_between_other_classes_are_forgotten():
    generator = torch.Generator().manual_seed(0)

    def batch(classes):
        targets = torch.randint(classes, (32,), generator=generator)
        return torch.randn(32, classes, generator=generator), targets

    loss, fresh, few = mg.UniLoss("macro_f1"), mg.UniLoss("macro_f1"), batch(3)
    loss(*batch(4))
    assert loss(*few) == fresh(*few)
    assert torch.equal(loss.form.form.labels.rows, fresh.form.form.labels.rows)
    again = mg.UniLoss("macro_f1")
    again.load_state_dict(loss.state_dict())
    again(*batch(4))
    assert int((again.form.form.labels.rows[2] > 0).sum()) == 32


def test_decisions_by_one_score_are_no_classes():
    loss, targets = mg.UniLoss("f1"), torch.arange(8) % 2
    loss(torch.randn(8), targets)
    assert 0 <= loss(torch.randn(8, 2), targets) <= 1
