"""ReLoss's form for classification: a small network of the right answer's probability, averaged over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.losses.batches import labelled
from metricgrad.losses.network import Network, NetworkForm

_WIDTH = 128


class ProbabilityNetwork(NetworkForm):
    r"""A learned function of how likely the right answer is.

    .. math:: \frac{c}{N} \sum_i f_\theta(p_i), \qquad p_i = \mathrm{softmax}(s_i)_{y_i}

    Where scores and targets share their shape, p is the sigmoid's probability of the right side, entry by entry.

    It can express any mean over entries of a function of p: accuracy softened at any level, cross-entropy, focal loss,
    absolute error. It cannot express what depends on several rows or several classes at once: F-beta, average
    precision, AUROC, top-k accuracy; see :class:`metricgrad.losses.set_network.SetNetwork`.

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
        >>> from metricgrad.losses.form import Draw
        >>> form, targets = ProbabilityNetwork(), torch.tensor([1])
        >>> wrong, right = (form(torch.tensor([s]), targets, draw=Draw(0, 0)) for s in (-2.0, 2.0))
        >>> bool(wrong > right)
        True

    References:
        T. Huang, Z. Li, H. Lu, Y. Shan, S. Yang, Y. Feng, F. Wang, S. You and C. Xu, "Relational Surrogate Loss
        Learning", ICLR 2022. The monotone network and its readings are ours.
    """

    kind: ClassVar[str] = "probability_network"

    def __init__(self, *, monotone: bool = True, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.monotone = monotone
        self.network = Network([2 if monotone else 1, _WIDTH, _WIDTH, _WIDTH, 1], monotone=monotone)
        self.reset(seed)

    def networks(self) -> Sequence[Network]:
        """The one network."""
        return [self.network]

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows or, since it is a mean over entries, the entries that a mask leaves."""
        return labelled(scores, targets, mask, pooled=True)

    def over(self, scores: Tensor, targets: Tensor) -> Tensor:
        """``(B,)``, non-negative."""
        log_p = _log_probability(scores, targets)
        if self.monotone:
            wrong = torch.stack([-torch.expm1(log_p), -log_p], -1)
            each = self.network(wrong)[..., 0] - self.network(torch.zeros_like(wrong[0, 0]))
        else:
            each = self.network(log_p.exp()[..., None])[..., 0].abs()
        return each.mean(-1)

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {"monotone": self.monotone, "seed": self.seed}


def _log_probability(scores: Tensor, targets: Tensor) -> Tensor:
    """Of the right answer, ``(B, entries)``."""
    if scores.shape == targets.shape:
        return torch.nn.functional.logsigmoid(torch.where(targets > 0, scores, -scores)).flatten(1)
    return scores.log_softmax(-1).gather(-1, targets.long()[..., None])[..., 0]
