"""What linear layers made of the model's own inputs in the user's step, which need not be computed a second time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from metricgrad.aligners.isolation import modules_of


@dataclass(frozen=True)
class FirstLayer:
    """One call of a linear layer whose input no parameter has a part in.

    Attributes:
        weight: the parameter.
        bias: likewise, or None.
        input: as the layer was called with it.
        output: as it came out, detached.
        versions: of both, right after the call.
    """

    weight: Tensor
    bias: Tensor | None
    input: Tensor
    output: Tensor
    versions: tuple[int, int]

    def with_parameters(self, values: Mapping[Tensor, Tensor]) -> FirstLayer:
        """The same call, of the tensors that stand for its parameters."""
        bias = None if self.bias is None else values.get(self.bias, self.bias)
        return dataclasses.replace(self, weight=values[self.weight], bias=bias)

    def made(self, x: Tensor, bias: Tensor | None) -> bool:
        """Whether the output is that of this input: it is the same memory, and nobody wrote to either since."""
        old = self.input
        return (
            bias is self.bias
            and x.data_ptr() == old.data_ptr()
            and (x.shape, x.stride(), x.dtype) == (old.shape, old.stride(), old.dtype)
            and (old._version, self.output._version) == self.versions
        )


def narrowing_layers(model: nn.Module) -> list[nn.Linear]:
    """Those whose outputs take less memory than their inputs, which a step keeps anyway."""
    return [part for part in modules_of(model) if type(part) is nn.Linear and part.out_features < part.in_features]


def as_first_layer(layer: nn.Linear, args: tuple[Any, ...], output: Any) -> FirstLayer | None:
    """A call seen by a hook, where it is one."""
    x = args[0] if len(args) == 1 else None
    if not isinstance(x, Tensor) or x.requires_grad or not isinstance(output, Tensor):
        return None
    if x.dtype != layer.weight.dtype or output.dtype != x.dtype:  # autocast
        return None
    return FirstLayer(layer.weight, layer.bias, x, output.detach(), (x._version, output._version))
