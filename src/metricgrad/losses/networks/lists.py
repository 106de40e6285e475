"""A learned loss of ranked lists: how many less relevant items stand above each relevant one, list by list."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.mlp import MLP
from metricgrad.losses.networks.reader import Reader
from metricgrad.metrics.decoding import canonical

_WIDTH = 32
_SHARPNESS = (2.0, 8.0)
_DEPTHS = (1.0, 3.0, 10.0)
_READINGS = 2 * (len(_DEPTHS) + 1) + len(_DEPTHS)
_NOWHERE = 1e3  # further down than any list's soft counts that matter


class ListNetwork(NetworkForm):
    r"""A learned function of how far down each relevant item of a list stands, averaged over the lists.

    .. math:: c\, f_\theta\Bigl(\sum_i w_i\, \psi(a_i),\; \psi(\min_i a_i), \dots\Bigr), \qquad
        a_i = \sum_{j :\, g_j < g_i} \sigma(\beta (s_j - s_i))

    a is the soft number of items above i that are worth less than i, :math:`w_i` the share of the list's gain (or of
    its squared gain) that i has, and :math:`\psi` falls off with the rank as metrics do: :math:`1 - 1 / \log_2(2 + a)`
    and :math:`a / (a + k)` for k of 1, 3 and 10. It is read of scores as they are, at :math:`\beta` = 1, and of scores
    standardised within their list, at 2 and 8. f never falls where a relevant item sinks; only the standardisation
    bends that a little.

    It can express NDCG, MAP, MRR and the like, cut off at any depth, of gains from 0. It cannot express what depends on
    scores' values rather than their order within a list. It has no fixed length, so it moves to lists of other lengths.

    Use it where a metric ranks within queries: ``ReLoss.fit(metric, scores, targets, groups=queries)``, and then
    ``loss(scores, targets, groups=queries)``; without groups a batch is one list. Not for long lists:
    :class:`metricgrad.losses.networks.sets.SetNetwork` needs no pairs.

    Args:
        seed: of the first weights.

    Cost: O(sum of L^2) time and memory for lists of L items; one call for all lists of a length.

    Raises:
        MetricgradError: for scores and targets of two shapes, negative gains, or a context other than ``mask`` and
            ``groups``.

    Example:
        >>> from metricgrad.losses.base import CallContext
        >>> form, gains, groups = ListNetwork(), torch.tensor([2, 0, 1, 0]), torch.tensor([7, 7, 9, 9])
        >>> right, wrong = (form(s * torch.tensor([3.0, 1.0, 9.0, 8.0]), gains, groups=groups, call=CallContext(0, 0))
        ...     for s in (1, -1))
        >>> bool(wrong > right)
        True

    References:
        Soft ranks by sigmoids: T. Qin, T.-Y. Liu and H. Li, "A General Approximation Framework for Direct Optimization
        of Information Retrieval Measures", Information Retrieval 2010. Learned losses: T. Huang et al., "Relational
        Surrogate Loss Learning", ICLR 2022, which has no lists; the readings and the network are ours.
    """

    kind: ClassVar[str] = "list_network"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(ListReader(), PositiveOfList(), seed=seed)


class ListReader(Reader):
    """Reads how far down each relevant item of a list stands."""

    takes_groups = True

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N,)`` scores and gains from 0, of the scores' dtype."""
        scores, targets = canonical(scores, targets, mask)
        if scores.ndim != 1 or not bool((targets >= 0).all()):
            raise MetricgradError(
                f"a loss of lists needs scores (N,) and gains (N,) from 0, got {tuple(scores.shape)} and "
                f"{tuple(targets.shape)}; pass the list of each item as groups="
            )
        return scores, targets.to(scores.dtype)

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, K)``, of ``(B, L)`` lists."""
        if scores.ndim != 2 or scores.shape != targets.shape:
            raise MetricgradError(
                f"a loss of lists reads lists (B, L) of scores and of gains, got {tuple(scores.shape)} and "
                f"{tuple(targets.shape)}; leave form= out, or choose one for this metric"
            )
        centred = scores - scores.mean(1, keepdim=True)
        standing = centred / (centred.square().mean(1, keepdim=True) + 1e-3).sqrt()
        found = [_readings(values, targets) for values in (scores, *(sharp * standing for sharp in _SHARPNESS))]
        return (torch.cat(found, -1),)

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The logistic loss of every item against every one of smaller gain (RankNet), averaged over the pairs."""
        scores, gains = self.read(scores, targets, None, "RankNet")
        above = gains[:, None] > gains
        cost = nn.functional.softplus(scores - scores[:, None])
        return (cost * above).sum() / above.sum().clamp(min=1)

    def target_direction(self, gradient: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
        """The derivative of each item whose gain is not the batch's mean, upwards where it is above it."""
        direction = (targets - targets.mean()).sign()
        return (gradient * direction)[direction != 0]


class PositiveOfList(nn.Module):
    """A monotone function of a list's readings, above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = MLP([_READINGS * (1 + len(_SHARPNESS)), _WIDTH, _WIDTH, 1], monotone=True)

    def forward(self, readings: Tensor) -> Tensor:
        """``(B, K)`` to ``(B,)``."""
        return nn.functional.softplus(self.mlp(readings))[..., 0]


def _readings(scores: Tensor, gains: Tensor) -> Tensor:
    """``(B, 11)``, of ``(B, L)`` scores at a sharpness of 1 and gains."""
    less = gains[:, None, :] < gains[:, :, None]
    above = ((scores[:, None, :] - scores[:, :, None]).sigmoid() * less).sum(-1)
    down = torch.stack([1 - 1 / torch.log2(2 + above), *(above / (above + depth) for depth in _DEPTHS)], -1)
    shares = torch.stack([gain / gain.sum(1, keepdim=True).clamp(min=1e-12) for gain in (gains, gains.square())], 1)
    first = -torch.logsumexp(-4 * torch.where(gains > 0, above, _NOWHERE), 1) / 4
    best = [first.clamp(min=0) / (first.clamp(min=0) + depth) for depth in _DEPTHS]
    return torch.cat([(shares @ down).flatten(1), torch.stack(best, -1)], -1)
