"""A family of pairwise ranking losses with a few knobs, the pairwise logistic loss among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.functional.kernels import SOFTPLUS
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import Rows, labelled, mask_of, mean_of_lists

RANGES: dict[str, tuple[float, float, float]] = {
    "weight": (0.0, 1.0, 0.5),
    "exponent": (0.0, 4.0, 0.0),
    "margin": (0.0, 3.0, 0.0),
    "temperature": (-1.5, 1.5, 0.0),
}
"""Knob -> its bounds, and where it starts."""


class RankingFamily(Form):
    r"""How far the negatives t stand over the positives s, with four knobs.

    .. math:: h_j = \frac1P \sum_i \mathrm{softplus}\Bigl(\frac{t_j - s_i + m}{e^{\tau}}\Bigr), \quad
        g_i = \frac1N \sum_j \mathrm{softplus}\Bigl(\frac{t_j - s_i + m}{e^{\tau}}\Bigr), \quad
        L = (1 - w) \Bigl(\frac1N \sum_j h_j^{1+q}\Bigr)^{\frac1{1+q}}
        + w \Bigl(\frac1P \sum_i g_i^{1+q}\Bigr)^{\frac1{1+q}}

    The knobs are ``exponent`` q (the worst items count more: the negatives at the top of the ranking, the positives at
    its bottom), ``weight`` w (of the positives against the negatives among those), ``margin`` m and ``temperature``
    :math:`\tau`, a logarithm. It starts at m = q = :math:`\tau` = 0: the mean over all pairs, the pairwise logistic
    loss exactly, whatever the weight.

    Use it as the form of :class:`metricgrad.systems.ala.ALA` where the metric reads a ranking: AUROC, average
    precision, recall at a precision. Not for labels at a fixed threshold, since a shift of all scores changes nothing.
    ``(N, C)`` scores with ``(N,)`` classes are ranked class by class.

    Cost: near-linear in the items of each column, twice that of :class:`PairwiseLogistic`.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> from metricgrad.losses.baselines.pairwise_logistic import PairwiseLogistic
        >>> scores, targets = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 1, 0])
        >>> ours = RankingFamily()(scores, targets, call=CallContext(0, 0))
        >>> bool(torch.isclose(ours, PairwiseLogistic()(scores, targets)))
        True

    References:
        Exponent: C. Rudin, "The P-Norm Push: A Simple Convex Ranking Algorithm that Concentrates at the Top of the
        List", JMLR 2009, Eq. 2; the root and the positives' side are ours.
    """

    kind: ClassVar[str] = "ranking_family"
    weight: Tensor
    exponent: Tensor
    margin: Tensor
    temperature: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, (_, _, start) in RANGES.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(start), requires_grad=False))

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d and non-negative; zero with a zero gradient where no column has both classes. Takes a ``mask``."""
        scores, targets = labelled(scores, targets, mask_of(context, type(self).__name__))
        return mean_of_lists(self._list, Rows(scores, targets))

    def knobs(self) -> Mapping[str, Knob]:
        """The four."""
        return {name: Knob(getattr(self, name), low, high) for name, (low, high, _) in RANGES.items()}

    def config(self) -> dict[str, Any]:
        """No arguments."""
        return {}

    def _list(self, scores: Tensor, positive: Tensor, weight: Tensor | None) -> Tensor:
        softness = self.temperature.exp()
        above, below = scores[positive] / softness, (scores[~positive] + self.margin) / softness
        negatives = pair_sum(below, above, kernel=SOFTPLUS) / len(above)
        positives = pair_sum(-above, -below, kernel=SOFTPLUS) / len(below)
        return (1 - self.weight) * self._norm(negatives) + self.weight * self._norm(positives)

    def _norm(self, values: Tensor) -> Tensor:
        """The power mean with exponent 1 + q; by logarithms, so that no power overflows."""
        logs = (1 + self.exponent) * values.clamp(min=torch.finfo(values.dtype).tiny).log()
        return ((logs.logsumexp(0) - torch.tensor(float(len(values))).log()) / (1 + self.exponent)).exp()
