"""ALA's form for classification: a matrix of how the classes count for and against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import labelled, mask_of

DOMINANCE = 0.9
"""What the off-diagonal of a row may weigh, as a share of its diagonal."""

_DIAGONAL = (0.1, 2.0)
_OFF_DIAGONAL = (-1.0, 1.0)


class CorrelationMatrix(Form):
    r"""The log-probabilities of a row, mixed by a symmetric matrix that starts as the identity.

    .. math:: \ell = -\sigma\bigl(y^\top \Phi \log p\bigr) \qquad\text{(literal)}, \qquad
        \ell = \tfrac12 - \sigma\Bigl(\sum_{j:\,\Phi_{yj} > 0} \Phi_{yj} \log p_j
        + \sum_{j:\,\Phi_{yj} < 0} |\Phi_{yj}| \log(1 - p_j)\Bigr) \qquad\text{(bounded)}

    averaged over the rows. A positive entry lets a class pass for another (coarse classes, wrong labels); a negative
    one pushes a pair of classes apart. At the identity both are :math:`-p_y / (1 + p_y)` and a constant: near the
    absolute error, not cross-entropy, which ``warm_up`` gives for the first steps.

    The literal equation rewards driving a negatively weighted class to probability 0 without end, whatever happens to
    the right one, and training collapses. The bounded variant rewards it up to 0 and no further, and :meth:`project`
    keeps the right class in the lead: :math:`\sum_{j \ne i} |\Phi_{ij}| \le 0.9\, \Phi_{ii}`.

    Use it where classes are confused in pairs. It has C (C + 1) / 2 knobs for one reward, which is more than a policy
    can tell apart in one run beyond a few classes; take a low ``rank`` or
    :class:`metricgrad.losses.families.classification.ClassificationFamily` first.

    Args:
        num_outputs: classes, 2 or more.
        bounded: False for the paper's equation.
        rank: None for the full matrix; otherwise r, for :math:`\Phi = I + (U V^\top + V U^\top) / 2` with U and V
            of shape ``(C, r)``, U starting at 0 and V at random signs. It is then of rank 2 r beside the identity.
        warm_up: training steps on cross-entropy before the matrix takes over.
        seed: of V.

    Cost: O(N C^2) time, O(N C) memory.

    Raises:
        MetricgradError: for options out of range, and for scores that are not ``(N, num_outputs)`` with classes.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> scores, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
        >>> value = CorrelationMatrix(2, bounded=False)(scores, targets, call=CallContext(0, 0))
        >>> round(float(value), 4)  # -(1/2) / (1 + 1/2)
        -0.3333

    References:
        C. Huang, S. Zhai, W. Talbott, M. A. Bautista, S.-Y. Sun, C. Guestrin and J. Susskind, "Addressing the
        Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019. The bounded variant, the low rank and the
        projection are ours.
    """

    kind: ClassVar[str] = "correlation_matrix"

    def __init__(
        self, num_outputs: int = 10, *, bounded: bool = True, rank: int | None = None, warm_up: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        if num_outputs < 2:
            raise MetricgradError(f"num_outputs is {num_outputs!r}; a matrix of classes needs 2 or more")
        if rank is not None and not 1 <= rank <= num_outputs:
            raise MetricgradError(f"rank is {rank!r}; expected None, or 1 to num_outputs={num_outputs}")
        if warm_up < 0:
            raise MetricgradError(f"warm_up is {warm_up!r}; expected a number of steps, 0 or more")
        self.num_outputs, self.bounded, self.rank = num_outputs, bounded, rank
        self.warm_up, self.seed = warm_up, seed
        if rank is None:
            # one number for each unordered pair: the matrix cannot help being symmetric
            rows, columns = torch.triu_indices(num_outputs, num_outputs)
            self.free = nn.Parameter((rows == columns).to(torch.get_default_dtype()), requires_grad=False)
        else:
            shape, generator = (num_outputs, rank), torch.Generator().manual_seed(seed)
            signs = torch.randint(2, shape, generator=generator) * 2 - 1
            self.u = nn.Parameter(torch.zeros(shape), requires_grad=False)
            self.v = nn.Parameter(signs.to(torch.get_default_dtype()), requires_grad=False)

    def matrix(self) -> Tensor:
        """Phi, ``(C, C)``."""
        if self.rank is not None:
            product = self.u @ self.v.T
            return torch.eye(self.num_outputs).to(product) + (product + product.T) / 2
        rows, columns = torch.triu_indices(self.num_outputs, self.num_outputs, device=self.free.device)
        upper = torch.zeros(self.num_outputs, self.num_outputs).to(self.free).index_put((rows, columns), self.free)
        return upper + upper.triu(1).T

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d; zero with a zero gradient for an empty batch. Takes a ``mask``."""
        scores, targets = labelled(scores, targets, mask_of(context, type(self).__name__))
        if scores.shape == targets.shape or scores.shape[1] != self.num_outputs:
            raise MetricgradError(
                f"scores of shape {tuple(scores.shape)} with targets of shape {tuple(targets.shape)} are not one class "
                f"of num_outputs={self.num_outputs} for each row; ClassificationFamily takes other kinds"
            )
        if not targets.numel():
            return (scores * 0).sum()
        if call.counts and call.step < self.warm_up:
            return nn.functional.cross_entropy(scores, targets)
        logs, rows = scores.log_softmax(1), self.matrix().to(scores.dtype)[targets]
        if not self.bounded:
            return -(rows * logs).sum(1).sigmoid().mean()
        inside = rows.clamp(min=0) * logs + (-rows).clamp(min=0) * log_of_the_rest(logs)
        return (0.5 - inside.sum(1).sigmoid()).mean()

    def knobs(self) -> Mapping[str, Knob]:
        """``phi[i,j]`` for each pair of classes; with a low rank, ``u[i,k]`` and ``v[i,k]``."""
        if self.rank is not None:
            return {
                f"{name}[{c},{k}]": Knob(factor[c, k], -1.0, 1.0, classes=(c, c))
                for name, factor in (("u", self.u.detach()), ("v", self.v.detach()))
                for c in range(self.num_outputs)
                for k in range(self.rank)
            }
        pairs = torch.triu_indices(self.num_outputs, self.num_outputs).T.tolist()
        free = self.free.detach()
        return {
            f"phi[{i},{j}]": Knob(free[n], *(_DIAGONAL if i == j else _OFF_DIAGONAL), classes=(i, j))
            for n, (i, j) in enumerate(pairs)
        }

    @torch.no_grad()
    def project(self) -> None:
        """Knobs between their bounds and, for the bounded variant, every row led by its diagonal."""
        super().project()
        if not self.bounded:
            return
        phi = self.matrix()
        diagonal = phi.diagonal()
        others = phi.abs().sum(1) - diagonal.abs()
        if self.rank is not None:
            # U scales the off-diagonal and what the diagonal has beyond 1 alike
            excess = (others - DOMINANCE * (diagonal - 1)) / DOMINANCE
            self.u /= excess.max().clamp(min=1)
            return
        shrink = (DOMINANCE * diagonal / others.clamp(min=1e-12)).clamp(max=1)
        rows, columns = torch.triu_indices(self.num_outputs, self.num_outputs, device=phi.device)
        pairwise = torch.minimum(shrink[rows], shrink[columns])
        self.free *= torch.where(rows == columns, torch.ones_like(pairwise), pairwise)

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        names = ("num_outputs", "bounded", "rank", "warm_up", "seed")
        return {name: getattr(self, name) for name in names}


def log_of_the_rest(logs: Tensor) -> Tensor:
    """log(1 - p) of the log-probabilities of a row, finite where p is 1 to the last bit."""
    tiny = torch.finfo(logs.dtype).tiny
    p = logs.exp()
    near_one = logs > -0.5
    # -expm1(log p) is exact near 1, where 1 - p is not; below, log1p is
    gap = torch.where(near_one, -torch.expm1(logs), torch.ones_like(logs)).clamp(min=tiny)
    return torch.where(near_one, gap.log(), torch.log1p(-torch.where(near_one, torch.zeros_like(p), p)))
