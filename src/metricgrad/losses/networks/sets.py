"""A learned loss of the whole batch: what the metric of a set reads, pooled over the rows in any order."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.label_reader import LabelReader
from metricgrad.losses.networks.mlp import MLP
from metricgrad.metrics.decoding import log_odds

_READINGS = 3
_FEATURES = 32


class SetNetwork(NetworkForm):
    r"""A learned function of the batch's (score, target) pairs that does not depend on their order.

    .. math:: \frac{c}{K} \sum_k \rho\Bigl(\underset{i: t_{ik} = 1}{\mathrm{mean}}\, \phi_1(-r_{ik}),\;
        \underset{i: t_{ik} = 0}{\mathrm{mean}}\, \phi_0(r_{ik}),\; \pi_k\Bigr)

    Column k is one class against the rest (the only column of binary scores), :math:`\pi_k` its share of positives and
    r how high a score stands: against its threshold (its margin over the best other class where there are classes) and,
    standardised, within its column. :math:`\phi` and :math:`\rho` never fall where a positive sinks or a negative
    rises, which is so for every metric below; only the standardisation bends that a little.

    It can express F-beta, average precision, AUROC and other rankings of columns, macro averages of them, and
    accuracy. It cannot express what is no mean over columns of one function (micro F1 over several columns), what
    depends on which class is confused with which (quadratic kappa) or on rows of ``(N, C)`` as lists (MRR over classes,
    exact match). Of scores with ``groups`` it is the mean over the groups, each a list for itself. One network serves
    any number of classes and rows, so it moves to other data.

    Ranking blocks well does not make it train well: fitted to F1 at 10 % positives it hardly punishes scores that are
    all too high, so a model trained on it may order rows well with its threshold in the wrong place. Choose the
    threshold afterwards.

    Args:
        seed: of the first weights.

    Cost: O(N K) time and memory, 1,300 multiplications an entry.

    Raises:
        MetricgradError: when called with targets that are no labels, or with a context other than ``mask`` and
            ``groups``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, targets = SetNetwork(), torch.tensor([0, 0, 1, 1])
        >>> wrong, right = (form(s * torch.arange(-2.0, 2.0), targets, call=CallContext(0, 0)) for s in (-1, 1))
        >>> bool(wrong > right)
        True

    References:
        Losses of a whole set: J. Grabocka, R. Scholz and L. Schmidt-Thieme, "Learning Surrogate Losses",
        arXiv:1905.10108, 2019. Pooling: M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov and A. Smola,
        "Deep Sets", NeurIPS 2017. The monotone networks, the readings and the columns are ours.
    """

    kind: ClassVar[str] = "set_network"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(ColumnReader(), ColumnNetwork(), seed=seed)


class ColumnReader(LabelReader):
    """Reads each class, or each label, against the rest."""

    takes_groups = True

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, N, K, 3)`` readings, each rising with the score, and ``(B, N, K)`` targets, 1 for positives."""
        if scores.shape == targets.shape:
            margin = scores.reshape(*scores.shape[:2], -1)
            odds, positive = margin, targets.reshape(margin.shape).to(scores.dtype)
        else:
            positive = nn.functional.one_hot(targets.long(), scores.shape[-1]).to(scores.dtype)
            odds, margin = log_odds(scores, False).to(scores.dtype), _margin(scores)
        centred = odds - odds.mean(1, keepdim=True)
        standing = centred / (centred.square().mean(1, keepdim=True) + 1e-3).sqrt()
        return torch.stack([margin.sigmoid() - 0.5, margin.asinh(), standing], -1), positive


class ColumnNetwork(nn.Module):
    """Positives and negatives pooled column by column, and a head that knows the share of positives."""

    def __init__(self) -> None:
        super().__init__()
        self.of_positives = MLP([_READINGS, _FEATURES, _FEATURES], monotone=True)
        self.of_negatives = MLP([_READINGS, _FEATURES, _FEATURES], monotone=True)
        self.head = MLP([4 * _FEATURES, 2 * _FEATURES, _FEATURES, 1], monotone=True)
        self.of_share = MLP([1, _FEATURES, 4 * _FEATURES], monotone=False)

    def forward(self, readings: Tensor, positive: Tensor) -> Tensor:
        """``(B,)``, positive."""
        share = positive.mean(1)[..., None]
        high = _mean(self.of_positives(-readings), positive)
        low = _mean(self.of_negatives(readings), 1 - positive)
        pooled = torch.cat([high, low, share * high, (1 - share) * low], -1)
        return nn.functional.softplus(self.head(pooled + self.of_share(share))).mean((-1, -2))


def _margin(scores: Tensor) -> Tensor:
    """Each class's lead over the best other class."""
    if scores.shape[-1] < 2:
        return scores
    first, second = scores.topk(2, -1).values.split(1, -1)
    return scores - torch.where(scores == first, second, first)


def _mean(features: Tensor, weights: Tensor) -> Tensor:
    """``(B, K, F)`` means over the rows of ``(B, N, K, F)`` features; zero where a column has no such row."""
    weights = weights[..., None]
    return (features * weights).sum(1) / weights.sum(1).clamp(min=1)
