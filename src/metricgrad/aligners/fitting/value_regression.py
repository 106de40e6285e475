"""The approximation objective: make the loss's value the metric's, over blocks of stored scores."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from metricgrad.aligners.fitting.block_fitting import BlockFitting
from metricgrad.aligners.fitting.labeled_blocks import LabeledBlocks
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.precision import wide


class ValueRegression(BlockFitting):
    r"""Regresses the metric's value: a learned loss that approximates the metric rather than its order.

    .. math:: \min_\theta \frac1m \sum_b \Bigl(L_\theta(B_b) - \frac{v_b - v_{\min}}{\mathrm{std}(v)}\Bigr)^2

    v is the metric turned so that lower is better; its minimum and spread are those of the held-out blocks. The
    weights with the largest linear correlation on those blocks are kept.

    Use it as the objective that :class:`metricgrad.aligners.fitting.rank_correlation.RankCorrelation` must beat, or
    where the loss shall be read as a metric. Its blocks, restarts and ``Args`` are those of :class:`BlockFitting`.

    Cost: about 1,200 metric calls, and one forward and backward pass of the form over ``block * values`` rows a step.

    Raises:
        MetricgradError: for settings out of range, or when no restart found a positive correlation.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.losses.networks.probabilities import ProbabilityNetwork
        >>> g = torch.Generator().manual_seed(0)
        >>> targets = torch.randint(3, (300,), generator=g)
        >>> scores = torch.randn(300, 3, generator=g) + 2 * torch.nn.functional.one_hot(targets, 3)
        >>> loss = mg.Loss(ProbabilityNetwork(), ValueRegression("accuracy", lr=0.01))
        >>> loss.prepare(scores, targets)
        >>> mg.mismatch(loss, "accuracy", scores, targets).value > 0.5
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, name it the approximation-based objective and
        find it worse than the correlation. Ours regresses standardised values on the same blocks.
    """

    kind: ClassVar[str] = "value_regression"

    def _begin(self, checks: LabeledBlocks) -> None:
        self._floor, self._spread = checks.target_loss.min(), checks.target_loss.std()

    def _quality(self, form: NetworkForm, checks: LabeledBlocks) -> float:
        """Pearson's correlation: what the loss explains up to a linear map, which a learning rate undoes anyway."""
        with torch.no_grad():
            values = checks.values(form).cpu().double()
        return float(torch.corrcoef(torch.stack([values, checks.target_loss]))[0, 1].nan_to_num(-1.0))

    def _objective(self, form: NetworkForm, drawn: LabeledBlocks) -> Tensor:
        values = drawn.values(form)
        aim = ((drawn.target_loss - self._floor) / self._spread).to(wide(values))
        return (wide(values) - aim).square().mean()
