"""ReLoss's form for classification: a small network of the right answer's probability, averaged over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.label_reader import LabelReader
from metricgrad.losses.networks.mlp import MLP, MeanAboveZero

_WIDTH = 128


class ProbabilityNetwork(NetworkForm):
    r"""A learned function of how likely the right answer is.

    .. math:: \frac{c}{N} \sum_i f_\theta(p_i), \qquad p_i = \mathrm{softmax}(s_i)_{y_i}

    Where scores and targets share their shape, p is the sigmoid's probability of the right side, entry by entry.

    It can express any mean over entries of a function of p: accuracy softened at any level, cross-entropy, focal loss,
    absolute error. It cannot express what depends on several rows or several classes at once: F-beta, average
    precision, AUROC, top-k accuracy; see :class:`metricgrad.losses.networks.sets.SetNetwork`.

    Args:
        monotone: f never rises with p, and is 0 at p = 1: the network has non-negative weights and reads 1 - p and
            -log p, so a fit cannot settle at the reversed order and a badly wrong row keeps a gradient. False is the
            paper's network: it reads p, and the absolute value is taken of its output.
        seed: of the first weights.

    Cost: O(N C) for the probabilities and 33,000 multiplications an entry.

    Raises:
        MetricgradError: when called with targets that are no labels, or with a context other than ``mask``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, targets = ProbabilityNetwork(), torch.tensor([1])
        >>> wrong, right = (form(torch.tensor([s]), targets, call=CallContext(0, 0)) for s in (-2.0, 2.0))
        >>> bool(wrong > right)
        True

    References:
        T. Huang, Z. Li, H. Lu, Y. Shan, S. Yang, Y. Feng, F. Wang, S. You and C. Xu, "Relational Surrogate Loss
        Learning", ICLR 2022. The monotone network and its readings are ours.
    """

    kind: ClassVar[str] = "probability_network"

    def __init__(self, *, monotone: bool = True, seed: int = 0) -> None:
        hidden = [_WIDTH, _WIDTH, _WIDTH, 1]
        network = MeanAboveZero([2, *hidden]) if monotone else MeanSize([1, *hidden])
        super().__init__(ProbabilityReader(monotone), network, seed=seed, monotone=monotone)


class ProbabilityReader(LabelReader):
    """Reads the probability p of the right answer, entry by entry.

    Args:
        monotone: it gives 1 - p and -log p, which fall where p rises; else p.
    """

    pooled: ClassVar[bool] = True  # a mean over entries

    def __init__(self, monotone: bool) -> None:
        self.monotone = monotone

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, entries, 2)``, or ``(B, entries, 1)``."""
        if scores.shape == targets.shape:
            log_p = nn.functional.logsigmoid(torch.where(targets > 0, scores, -scores)).flatten(1)
        else:
            log_p = scores.log_softmax(-1).gather(-1, targets.long()[..., None])[..., 0]
        if not self.monotone:
            return (log_p.exp()[..., None],)
        return (torch.stack([-torch.expm1(log_p), -log_p], -1),)


class MeanSize(nn.Module):
    """The paper's network: the mean over the entries of the absolute value of a function.

    Args:
        widths: of its layers, the readings first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP(widths, monotone=False)

    def forward(self, readings: Tensor) -> Tensor:
        """``(B, N, K)`` readings to ``(B,)`` values from 0."""
        return self.mlp(readings)[..., 0].abs().mean(-1)
