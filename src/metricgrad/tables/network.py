"""A network for tables: embeddings of numbers and of categories, then a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.tables.preprocessing import TAIL


class TableNetwork(nn.Module):
    """An MLP on piecewise-linear embeddings of numbers and on embeddings of categories.

    Its numbers are standard normal deviates, so the bins of the piecewise-linear embeddings are the normal quantiles,
    the same for all tables. Embeddings of categories begin at zero: a level that training never met says nothing.

    Args:
        numbers: how many columns are standard normal deviates.
        flags: how many after those are zeros and ones.
        levels: of each column after those, how many different codes it has.
        outputs: scores of a row, shaped ``(N, outputs)``; None for one, shaped ``(N,)``.
        width: units of each hidden layer.
        depth: hidden layers.
        embedding: numbers that each column becomes.
        bins: pieces of each number's embedding.
        dropout: share of hidden units left out in training.

    References:
        Gorishniy et al., "On embeddings for numerical features in tabular deep learning", NeurIPS 2022; "TabM:
        advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025.

    Example:
        >>> network = TableNetwork(2, 1, [5], None)
        >>> network(torch.tensor([[0.5, -1.0, 0.0, 3.0]])).shape
        torch.Size([1])
    """

    def __init__(
        self,
        numbers: int,
        flags: int,
        levels: Sequence[int],
        outputs: int | None,
        *,
        width: int = 128,
        depth: int = 2,
        embedding: int = 12,
        bins: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self._config = {
            "numbers": numbers, "flags": flags, "levels": list(levels), "outputs": outputs, "width": width,
            "depth": depth, "embedding": embedding, "bins": bins, "dropout": dropout,
        }  # fmt: skip
        counts = {"width": width, "depth": depth, "embedding": embedding, "bins": bins - 1, "outputs": outputs or 1}
        if min(counts.values()) < 1 or min(numbers, flags, *levels, 1) < 0 or not 0 <= dropout < 1:
            raise MetricgradError(f"a table's network cannot be made of {self._config}; sizes are 1 or more, bins 2")
        self.numbers, self.flags = numbers, flags
        self.of_numbers = PiecewiseLinearEmbeddings(numbers, embedding, bins) if numbers else None
        self.of_levels = nn.Embedding(sum(levels), embedding) if levels else None
        if self.of_levels is not None:
            nn.init.zeros_(self.of_levels.weight)
        starts = torch.tensor([0, *levels[:-1]] if levels else [], dtype=torch.long).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)
        inputs = (numbers + len(levels)) * embedding + flags
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.body = nn.Sequential(*layers, nn.Linear(inputs, outputs or 1))
        self.one_score = outputs is None

    starts: Tensor

    def config(self) -> dict[str, Any]:
        """JSON-able arguments that make a network of the same shapes."""
        return dict(self._config)

    def forward(self, inputs: Tensor) -> Tensor:
        """Raw scores.

        Args:
            inputs: ``(N, numbers + flags + len(levels))``, as :class:`metricgrad.tables.preprocessing.Layout` has them.
        """
        end = self.numbers + self.flags
        parts = [inputs[:, self.numbers : end]]
        if self.of_numbers is not None:
            parts.append(self.of_numbers(inputs[:, : self.numbers]).flatten(1))
        if self.of_levels is not None:
            parts.append(self.of_levels(inputs[:, end:].long() + self.starts).flatten(1))
        scores = self.body(torch.cat(parts, 1))
        return scores.squeeze(-1) if self.one_score else scores


class PiecewiseLinearEmbeddings(nn.Module):
    """A vector for each number that is linear between the quantiles of a standard normal distribution.

    At the start it is linear throughout; what bends it begins at zero and is learned. Beyond the outermost quantiles
    the outermost pieces go on.

    Args:
        numbers: how many there are, each with an embedding of its own.
        size: of a vector.
        bins: pieces.

    References:
        Gorishniy et al., NeurIPS 2022, equation 1; the parts that are learned as version "B" of their package
        rtdl_num_embeddings has them. There the quantiles are each column's; here columns are normal deviates.
    """

    left: Tensor
    width: Tensor

    def __init__(self, numbers: int, size: int, bins: int) -> None:
        super().__init__()
        edges = torch.special.ndtri(torch.linspace(TAIL, 1 - TAIL, bins + 1))
        self.register_buffer("left", edges[:-1], persistent=False)
        self.register_buffer("width", edges.diff(), persistent=False)
        self.slope = nn.Parameter(torch.empty(numbers, size).uniform_(-(size**-0.5), size**-0.5))
        self.bias = nn.Parameter(torch.empty(numbers, size).uniform_(-(size**-0.5), size**-0.5))
        self.pieces = nn.Parameter(torch.zeros(numbers, bins, size))

    def forward(self, numbers: Tensor) -> Tensor:
        """``(N, numbers, size)`` of ``(N, numbers)``."""
        encoded = (numbers[..., None] - self.left) / self.width
        first, inner, last = encoded[..., :1], encoded[..., 1:-1], encoded[..., -1:]
        encoded = torch.cat([first.clamp(max=1), inner.clamp(0, 1), last.clamp(min=0)], -1)
        bent = (encoded.transpose(0, 1) @ self.pieces).transpose(0, 1)
        return torch.addcmul(self.bias, self.slope, numbers[..., None]) + bent
