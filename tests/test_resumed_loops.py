"""A loop of one's own, broken off and gone on with as docs/trainers.md says, ends where one that was not ends."""

import pytest
import torch
from torch import nn

import metricgrad as mg

STEPS = 12
LOSSES = {
    "UniLoss, classes": lambda: mg.UniLoss("macro_f1"),
    "AdaLFL": lambda: mg.AdaLFL(num_outputs=3),
    "AdaLFL, every third step": lambda: mg.AdaLFL(num_outputs=3, every=3),
    "ALA": lambda: mg.ALA("macro_f1", num_outputs=3, every=1, warm_up=0),
}


def _made(make):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), make()


def _trained(parts, steps):
    model, optimizer, loss = parts
    g = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(STEPS, 24, 4, generator=g), torch.arange(24) % 3
    handle = loss.attach(model, optimizer, valid=[(inputs[0], targets)], total_steps=STEPS)
    for step in steps:
        optimizer.zero_grad()
        loss(model(inputs[step]), targets).backward()
        optimizer.step()
    handle.detach()
    return model, loss


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", [5, 7, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_it_goes_on_to_the_last_bit(name, cut, tmp_path):
    whole = _trained(_made(LOSSES[name]), range(STEPS))
    model, optimizer, loss = parts = _made(LOSSES[name])
    _trained(parts, range(cut))
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss.state_dict()}
    torch.save(kept, tmp_path / "last.pt")

    model, optimizer, loss = parts = _made(LOSSES[name])
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    loss.load_state_dict(kept["loss"])
    found = _trained(parts, range(cut, STEPS))
    for ours, theirs in zip(found, whole, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
