"""A whole training step under torch.compile: the model is compiled, and nothing that a loss or an aligner does."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo import utils

import metricgrad as mg

SOURCE = str(Path(mg.__file__).parent)
#: What runs inside graphs: where a loss begins, how its gradient goes back, and a layer's hook, which does nothing.
INSIDE = {"loss.py", "outside_graphs.py", "given_gradient.py", "recorder.py"}

LOSSES = {
    "ala": lambda: mg.ALA("accuracy", num_outputs=3, every=1, warm_up=0),
    "uniloss": lambda: mg.UniLoss("macro_f1"),
    "adalfl": lambda: mg.AdaLFL(num_outputs=3, lr=1e-2),
}


def trained(make, compiled):
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    y, model, loss = x[:, :3].argmax(1), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss.attach(model, optimizer, valid=[(x, y)], total_steps=3)

    def step():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    if compiled:
        step = torch.compile(step, backend="eager")
    for _ in range(3):
        step()
    return [*model.parameters(), *loss.form.parameters()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_step_is_the_step_and_compiles_nothing_of_ours(name):
    torch._dynamo.reset()
    utils.clear_compilation_metrics()
    found = trained(LOSSES[name], True)
    frames = [Path(str(each.co_filename)) for each in utils.get_compilation_metrics()]
    assert frames
    assert {frame.name for frame in frames if frame.is_relative_to(SOURCE)} <= INSIDE
    for ours, expected in zip(found, trained(LOSSES[name], False), strict=True):
        assert torch.equal(ours, expected)
