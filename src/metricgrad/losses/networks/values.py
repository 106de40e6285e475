"""A learned loss of real values: what regression metrics read of the errors, pooled over the rows in any order."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.losses.batches import refuse_entries
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.mlp import MLP
from metricgrad.losses.networks.reader import Reader
from metricgrad.metrics.decoding import canonical

_READINGS = 4
_FEATURES = 32


class RegressionNetwork(NetworkForm):
    r"""A learned function of the batch's errors that does not depend on the order of rows.

    .. math:: \frac{c}{K} \sum_k \rho\Bigl(\frac1N \sum_i \phi\bigl(|e_{ik}|, |e_{ik}| / \sigma_k,
        \tfrac12 \min(|e_{ik}|, 1)^2, |z_{ik}|\bigr)\Bigr)

    :math:`e = s - t` is the error, compressed by asinh where it is read as it is, :math:`\sigma_k` the spread of column
    k's targets in the batch, and z the difference of the standardised score and the standardised target.
    :math:`\phi` and :math:`\rho` never fall where one of the readings grows.

    It can express mean absolute and squared error, Huber's loss, a share of rows within a tolerance, the explained
    variance and Pearson's correlation, and Spearman's as far as ranks follow values. It cannot express quantile losses
    (it does not read the sign of an error) or ranks as such. Of scores with ``groups`` it is the mean over the groups.

    Args:
        seed: of the first weights.

    Cost: O(N K) time and memory, 1,200 multiplications an entry.

    Raises:
        MetricgradError: for shapes that do not fit, or a context other than ``mask`` and ``groups``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, targets = RegressionNetwork(), torch.arange(4.0)
        >>> near, far = (form(targets + off, targets, call=CallContext(0, 0)) for off in (0.1, 2.0))
        >>> bool(far > near)
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, has no regression; the form is ours.
    """

    kind: ClassVar[str] = "regression_network"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(ErrorReader(), PooledErrors(), seed=seed)


class ErrorReader(Reader):
    """Reads the errors of real values."""

    takes_groups = True

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N,)`` or ``(N, K)`` scores and targets of one dtype."""
        refuse_entries(scores, targets, mask)
        scores, targets = canonical(scores, targets, mask)
        if scores.shape != targets.shape:
            canonical(scores[..., None, None], targets)  # raises: class scores have no errors
        return scores, targets.to(scores.dtype)

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, N, K, 4)``, none of which falls where an error grows."""
        s, t = (x.reshape(*x.shape[:2], -1).to(scores.dtype) for x in (scores, targets))
        error = (s - t).abs()
        spread = t.std(1, correction=0, keepdim=True)
        relative = error / (spread + 1e-3)
        apart = (_standard(s) - _standard(t)).abs()
        small = 0.5 * error.clamp(max=1).square()
        return (torch.stack([error.asinh(), relative.asinh(), small, apart], -1),)

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(*self.read(scores, targets, None, "mean squared error"))


class PooledErrors(nn.Module):
    """Errors pooled over the rows, and a head for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.of_errors = MLP([_READINGS, _FEATURES, _FEATURES], monotone=True)
        self.head = MLP([_FEATURES, _FEATURES, 1], monotone=True)

    def forward(self, readings: Tensor) -> Tensor:
        """``(B,)``, positive."""
        return nn.functional.softplus(self.head(self.of_errors(readings).mean(1))).mean((-1, -2))


def _standard(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-3).sqrt()
