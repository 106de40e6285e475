"""The non-autoregressive Transformer: padding says nothing, and it learns to translate."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.baselines.token_cross_entropy import TokenCrossEntropy
from tasks.romanian_strings.model import NonAutoregressive


def test_padding_does_not_change_the_scores():
    torch.manual_seed(0)
    model = NonAutoregressive(9, 7, length=4, width=16, layers=2, heads=2).eval()
    short = torch.tensor([[3, 5, 0]])
    long = torch.tensor([[3, 5, 0, -1, -1]])
    assert model(short).shape == (1, 4, 7)
    assert torch.allclose(model(short), model(long), atol=1e-6)
    assert not torch.allclose(model(short), model(torch.tensor([[5, 3, 0]])), atol=1e-3)
    with pytest.raises(mg.MetricgradError, match="at most 64 words"):
        model(torch.zeros(1, 65, dtype=torch.long))


def test_it_learns_a_dictionary_and_an_order():
    g = torch.Generator().manual_seed(0)
    source = torch.randint(1, 12, (600, 3), generator=g)
    dictionary = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(11, generator=g) + 1])
    targets = torch.cat([dictionary[source].flip(1), torch.zeros(600, 1, dtype=torch.long)], 1)
    torch.manual_seed(0)
    model = NonAutoregressive(12, 12, length=4, width=32, layers=1, heads=2, dropout=0.0)
    optimizer, loss = torch.optim.Adam(model.parameters(), 5e-3), TokenCrossEntropy()
    for step in range(150):
        rows = torch.arange(500)[(50 * step) % 500 :][:50]
        optimizer.zero_grad()
        loss(model(source[rows]), targets[rows]).backward()
        optimizer.step()
    assert float(mg.as_metric("bleu:end=0,order=2")(model.eval()(source[500:]), targets[500:])) > 0.8
