"""Tangents of linear layers, convolutions and batch normalisation, against those that autograd derives."""

import contextlib

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call

from metricgrad.aligners.lookahead.forward_rules import ForwardRules

LAYERS = {
    "linear": lambda: (nn.Linear(6, 4), (5, 6)),
    "linear without bias, more axes": lambda: (nn.Linear(6, 4, bias=False), (5, 3, 6)),
    "conv1d": lambda: (nn.Conv1d(4, 6, 3, padding="same"), (3, 4, 9)),
    "conv2d in groups": lambda: (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 7, 7)),
    "conv2d with reflections": lambda: (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (3, 2, 5, 5)),
    "conv3d": lambda: (nn.Conv3d(2, 3, 2, dilation=2), (2, 2, 4, 4, 4)),
    "batch norm": lambda: (nn.BatchNorm2d(3), (6, 3, 4, 4)),
    "batch norm of rows": lambda: (nn.BatchNorm1d(3, eps=0.1), (6, 3)),
    "batch norm without weights": lambda: (nn.BatchNorm1d(3, affine=False), (6, 3, 2)),
    "batch norm without memory": lambda: (nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 4, 4)),
    "instance norm": lambda: (nn.InstanceNorm2d(3, affine=True), (6, 3, 4, 4)),
}


def _pushed(layer, inputs, moves, moving, rules):
    with torch.no_grad(), forward_ad.dual_level(), ForwardRules() if rules else contextlib.nullcontext():
        named = {n: p.detach() for n, p in layer.named_parameters()}
        duals = {n: forward_ad.make_dual(p, moves[n]) if n in moving else p for n, p in named.items()}
        buffers = {n: b.clone() for n, b in layer.named_buffers()}
        x = forward_ad.make_dual(inputs, moves["input"]) if "input" in moving else inputs
        primal, tangent = forward_ad.unpack_dual(functional_call(layer, {**duals, **buffers}, x))
        return primal, tangent, buffers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "moving", [("input", "weight", "bias"), ("input",), ("weight",), ("bias",), ("input", "bias"), ()]
)
@pytest.mark.parametrize("name", LAYERS)
def test_the_rules_agree_with_autograd(name, moving, training):
    torch.manual_seed(0)
    layer, shape = LAYERS[name]()
    layer.double().train(training)
    for tensor in (*layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point())):
        tensor.data.uniform_(0.5, 1.5)
    inputs = torch.randn(shape, dtype=torch.float64)
    moves = {"input": torch.randn_like(inputs), **{n: torch.randn_like(p) for n, p in layer.named_parameters()}}
    primal, tangent, buffers = _pushed(layer, inputs, moves, moving, rules=True)
    expected, slope, left = _pushed(layer, inputs, moves, moving, rules=False)
    torch.testing.assert_close(primal, expected)
    torch.testing.assert_close(tangent, slope)
    torch.testing.assert_close(buffers, left)


def test_the_first_layer_is_not_passed_a_tensor_of_zeros():
    seen = []

    class Counted(ForwardRules):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            with torch.autograd.profiler.profile() as profile:
                out = super().__torch_function__(func, types, args, kwargs)
            seen.extend(event.name for event in profile.function_events)
            return out

    layer = nn.Linear(6, 4)
    with torch.no_grad(), forward_ad.dual_level(), Counted():
        weight = forward_ad.make_dual(layer.weight.detach(), torch.ones(4, 6))
        out = nn.functional.linear(torch.ones(5, 6), weight, layer.bias.detach())
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, torch.full((5, 4), 6.0))
    assert sum(name in ("aten::addmm", "aten::mm") for name in seen) == 2
