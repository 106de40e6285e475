"""The small networks: what they compute, and in how many passes over the rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from metricgrad.losses.networks.mlp import MLP


class Names(TorchDispatchMode):
    """The operations inside, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _made(widths: list[int]) -> MLP:
    mlp = MLP(widths, monotone=True)
    mlp.reset(torch.Generator().manual_seed(0))
    return mlp.double()


def _by_definition(mlp: MLP, x: torch.Tensor) -> torch.Tensor:
    for i, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        x = x @ weight.abs().t() + bias
        if i < len(mlp.weights) - 1:
            up, down = x.chunk(2, -1)
            x = torch.cat([functional.elu(up), -functional.elu(-down)], -1)
    return x


@pytest.mark.parametrize("widths", [[2, 8, 6, 1], [3, 7, 5, 2], [2, 1]])
def test_a_monotone_network_is_absolute_weights_and_both_bends(widths: list[int]):
    mlp = _made(widths)
    x = torch.randn(5, 4, widths[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    torch.testing.assert_close(mlp(x), _by_definition(mlp, x))
    leaves = [x, *mlp.parameters()]
    values = mlp(x), _by_definition(mlp, x)
    found, expected = (torch.autograd.grad(value.square().sum(), leaves) for value in values)
    torch.testing.assert_close(found, expected)


def test_both_bends_take_one_pass_over_the_rows():
    mlp = _made([2, 8, 6, 1])
    with Names() as names:
        mlp(torch.zeros(3, 2, dtype=torch.float64))
    assert [names.seen.count(name) for name in ("elu", "neg", "cat")] == [2, 0, 0]


def test_what_a_network_saves_is_its_weights_alone():
    assert set(_made([2, 4, 1]).state_dict()) == {"weights.0", "weights.1", "biases.0", "biases.1"}
