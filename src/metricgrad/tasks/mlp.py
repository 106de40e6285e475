"""A multilayer perceptron."""

from __future__ import annotations

from torch import nn


def mlp(inputs: int, outputs: int | None, hidden: tuple[int, ...] = (64,)) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        inputs: features of an item; further axes are flattened.
        outputs: scores of an item; None for one score, shaped ``(N,)``.
        hidden: widths of the hidden layers.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    layers.append(nn.Linear(inputs, 1 if outputs is None else outputs))
    if outputs is None:
        layers.append(nn.Flatten(0))
    return nn.Sequential(*layers)
