"""Modules registered under two names, which a swap of parameters by name would take apart."""

import pytest
import torch
from torch import nn

import metricgrad as mg


class Once(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))

    def forward(self, x):
        return self.backbone[2](self.backbone[1](self.backbone[0](x)).tanh())


class Twice(Once):
    def __init__(self):
        super().__init__()
        self.head, self.norm = self.backbone[2], self.backbone[1]

    def forward(self, x):
        return self.head(self.norm(self.backbone[0](x)).tanh())


def _trained(kind, attach=True, **options):
    torch.manual_seed(0)
    model = kind().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = mg.AdaLFL(num_outputs=3, lr=0.0, **options).double()
    x, y = torch.randn(12, 6, dtype=torch.float64), torch.randint(3, (12,))
    if attach:
        loss.attach(model, optimizer, valid=[(x, y)])
    for _ in range(4):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return model, loss.aligner.last_hypergradient


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"steps": 2}], ids=["exact", "one-sided", "window"])
def test_the_model_stays_whole(options):
    (model, found), (plain, _) = _trained(Twice, **options), _trained(Twice, attach=False)
    assert model.head is model.backbone[2]
    assert isinstance(model.head.weight, nn.Parameter)
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    for a, b in zip([*model.parameters(), *model.buffers()], [*plain.parameters(), *plain.buffers()], strict=True):
        assert torch.equal(a, b)
    assert any(bool(part.any()) for part in found)
    for a, b in zip(found, _trained(Once, **options)[1], strict=True):
        torch.testing.assert_close(a, b)
