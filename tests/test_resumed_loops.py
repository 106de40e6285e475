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


def _trained(parts, steps, kept=None):
    """Through these steps; ``kept`` is loaded once the loss is attached."""
    model, optimizer, loss = parts
    g = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(STEPS, 24, 4, generator=g), torch.arange(24) % 3
    handle = loss.attach(model, optimizer, valid=[(inputs[0], targets)], total_steps=STEPS)
    if kept is not None:
        _load(parts, kept)
    for step in steps:
        optimizer.zero_grad()
        loss(model(inputs[step]), targets).backward()
        optimizer.step()
    handle.detach()
    return model, loss


def _load(parts, kept):
    for part, state in zip(parts, kept, strict=True):
        part.load_state_dict(state)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", ["load", "attach"])
@pytest.mark.parametrize("cut", [5, 7, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_it_goes_on_to_the_last_bit(name, cut, first, tmp_path):
    whole = _trained(_made(LOSSES[name]), range(STEPS))
    parts = _made(LOSSES[name])
    _trained(parts, range(cut))
    torch.save([part.state_dict() for part in parts], tmp_path / "last.pt")

    parts = _made(LOSSES[name])
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    if first == "load":
        _load(parts, kept)
    found = _trained(parts, range(cut, STEPS), kept if first == "attach" else None)
    for ours, theirs in zip(found, whole, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
