"""What a look ahead runs leaves no trace in the training: random states, generators, attributes of the model."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import metricgrad as mg


class Noisy(Dataset):
    """Draws from every global generator."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + random.random() + float(np.random.rand()) + torch.randn(()), self.y[index]


class Remembering(nn.Module):
    """Keeps attributes that are no buffers."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls, self.log, self.mean = nn.Linear(4, 3), 0, [], torch.zeros(3)

    def forward(self, x):
        scores = self.inner(x)
        self.calls += 1
        self.log.append(self.calls)
        self.mean.lerp_(scores.detach().mean(0), 0.1)
        return scores


def _trained(attach, **options):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    shared = torch.Generator().manual_seed(3)
    x, y = torch.randn(20, 4), torch.arange(20) % 3
    train = DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True, generator=shared)
    valid = DataLoader(Noisy(x, y), batch_size=5, shuffle=True, generator=shared)
    model = Remembering()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3, **options)
    loss.aligner.lr = loss.aligner.adam.lr = 0.0
    if attach:
        loss.attach(model, optimizer, valid=valid)
    for _ in range(3):
        for inputs, targets in train:
            optimizer.zero_grad()
            noise = random.random() + float(np.random.rand()) + torch.randn(())
            loss(model(inputs + noise), targets).backward()
            optimizer.step()
    states = torch.get_rng_state(), shared.get_state(), model.mean, *model.state_dict().values()
    return states, (random.random(), float(np.random.rand()), model.calls, model.log)


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"steps": 2}], ids=["exact", "one-sided", "window"])
def test_no_trace(options):
    (plain, numbers), (ours, same) = _trained(False), _trained(True, **options)
    assert numbers == same
    for a, b in zip(plain, ours, strict=True):
        assert torch.equal(a, b)
