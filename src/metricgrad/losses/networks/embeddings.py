"""A learned loss of embeddings: how each row stands to its own class and to all others, in any order."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.functional.cosines import same_class, unit_rows
from metricgrad.losses.base import CallContext
from metricgrad.losses.distances import embedded, to_others
from metricgrad.losses.families.distance_mixture import DistanceMixture
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.mlp import MLP
from metricgrad.losses.networks.reader import Reader

_WIDTH = 32
_SHARPNESS = (4.0, 16.0, 64.0)
_READINGS = 3 * len(_SHARPNESS) + 3
_AWAY = 10.0  # farther than anything on the sphere


class EmbeddingNetwork(NetworkForm):
    r"""A learned function of each row's distances to its own class and to the others, averaged over the rows.

    .. math:: \frac{c}{|A|} \sum_{i \in A} f_\theta\Bigl(
        m_\beta(d_{ip}) - m_\beta(d_{in}),\;
        \log\bigl(1 + \textstyle\sum_n \sigma(\beta (m(d_{ip}) - d_{in}))\bigr),\;
        \operatorname{mean}_p \sigma(\beta (d_{ip} - m(d_{in}))),\; \dots\Bigr)

    with d the Euclidean distance of normalised embeddings (0 to 2), p the other rows of i's class, n the rows of
    other classes, :math:`m_\beta(x) = -\frac1\beta \log \sum e^{-\beta x}` a soft minimum, at the sharpnesses
    :math:`\beta` 4, 16 and 64, and m the sharpest. The readings are the lead of the others over the own class, how many
    others are nearer than the nearest of the own class, and the share of the own class behind the nearest other; beside
    them the mean distance to the own class, its soft maximum, and two minus the mean distance to the others. f never
    falls where a row of the own class moves away or another comes nearer. A are the rows with another of their class;
    the metrics leave the rest out too.

    It can express recall at k, MAP at R, precision at R and how clearly classes are clusters (NMI), averaged over rows.
    It cannot express what weighs classes differently or reads which class is taken for which. It reads distances alone,
    so it moves to any embedding size and any number of classes; turning all embeddings or renaming classes changes
    nothing.

    Use it where a model is trained to be judged by its embeddings' neighbours, fitted by
    :meth:`metricgrad.ReLoss.fit` with ``per_class`` as the batches will have it. Not where classes have scores of their
    own: a classification loss learns faster there.

    Args:
        seed: of the first weights.

    Cost: O(N^2 (D + 20)) time and O(N^2) memory.

    Raises:
        MetricgradError: for scores that are no embeddings, or a context other than ``mask``.

    Example:
        >>> form, targets = EmbeddingNetwork(), torch.tensor([0, 0, 1, 1])
        >>> apart = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
        >>> right, wrong = (form(apart, t, call=CallContext(0, 0)) for t in (targets, targets[[0, 2, 1, 3]]))
        >>> bool(wrong > right)
        True

    References:
        The idea of a learned loss: T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, which has no
        embeddings. The readings and the monotone network are ours; the standard loss beside it is the triplet loss of
        :class:`metricgrad.losses.families.distance_mixture.DistanceMixture`.
    """

    kind: ClassVar[str] = "embedding_network"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(EmbeddingReader(), MeanOfAsked(), seed=seed)


class EmbeddingReader(Reader):
    """Reads each row's distances to its own class and to the others."""

    of_embeddings: ClassVar[bool] = True

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N, D)`` embeddings and ``(N,)`` class numbers."""
        return embedded(scores, targets, mask)

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, N, 12)``, and ``(B, N)`` 1 for rows that have others of their class and of another, else 0."""
        if scores.shape[1] < 2:  # no distances
            none = (scores * 0).sum(-1)
            return none[..., None].expand(*none.shape, _READINGS), none
        distances, same = to_others(scores), same_class(targets)
        return of_distances(distances, same), (same.any(-1) & ~same.all(-1)).to(distances)

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The triplet loss at a margin of 0.2."""
        return DistanceMixture()(scores, targets, call=CallContext(0, 0, False))

    def target_direction(self, gradient: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
        """The derivative of each row that has another of its class, in the direction of the mean of those others."""
        units = unit_rows(scores)
        others = (targets[:, None] == targets).to(units).fill_diagonal_(0)
        count = others.sum(1, keepdim=True)
        aim = others @ units / count.clamp(min=1) - units
        return (gradient * aim).sum(1)[count[:, 0] > 0]


class MeanOfAsked(nn.Module):
    """The mean of a monotone function, above 0, over the rows that can be compared; 0 where there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = MLP([_READINGS, _WIDTH, _WIDTH, 1], monotone=True)

    def forward(self, readings: Tensor, asked: Tensor) -> Tensor:
        """``(B, N, K)`` readings and ``(B, N)`` ones and zeros to ``(B,)``."""
        each = nn.functional.softplus(self.mlp(readings))[..., 0]
        return (each * asked).sum(-1) / asked.sum(-1).clamp(min=1)


def of_distances(distances: Tensor, same: Tensor) -> Tensor:
    """What the network reads of each row: none falls where one of its class is farther, or another is nearer.

    Args:
        distances: ``(..., N, M)`` of each row to M others.
        same: ``(..., N, M)`` booleans, whether the other is of the row's class.

    Returns:
        ``(..., N, 12)``, finite also for rows without an other of one sort.
    """
    own, others = torch.where(same, distances, _AWAY), torch.where(same, _AWAY, distances)
    nearest = [(_soft_least(own, sharp), _soft_least(others, sharp)) for sharp in _SHARPNESS]
    (own_least, other_least), size = nearest[-1], same.sum(-1).clamp(min=1)
    ahead = [((own_least[..., None] - others) * sharp).sigmoid().sum(-1).log1p() for sharp in _SHARPNESS]
    beyond = [((distances - other_least[..., None]) * sharp).sigmoid() for sharp in _SHARPNESS]
    farthest = -_soft_least(torch.where(same, -distances, _AWAY), _SHARPNESS[1])
    return torch.stack(
        [
            *(near - far for near, far in nearest),
            *ahead,
            *((share * same).sum(-1) / size for share in beyond),
            (distances * same).sum(-1) / size,
            2 - (distances * ~same).sum(-1) / (~same).sum(-1).clamp(min=1),
            farthest,
        ],
        -1,
    )


def _soft_least(values: Tensor, sharpness: float) -> Tensor:
    return torch.logsumexp(-sharpness * values, -1) / -sharpness
