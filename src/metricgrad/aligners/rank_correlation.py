"""ReLoss's aligner: before training, make the loss rank blocks of rows as the metric ranks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.aligners.block_fitting import BlockFitting, Drawn
from metricgrad.aligners.blocks import Kind, Store
from metricgrad.functional import kendall, spearman
from metricgrad.losses.batches import checked_number
from metricgrad.losses.network import NetworkForm
from metricgrad.metric import Metric
from metricgrad.metrics.spans import best_spans

_PUBLISHED: tuple[Kind, ...] = ("flipped",)
_SOFTNESS = 0.3
_STRENGTH = 1.0


class RankCorrelation(BlockFitting):
    r"""Maximises the rank correlation of a learned loss with the metric, over blocks of stored scores.

    .. math:: \max_\theta\; \rho\bigl(L_\theta(B_1), \dots, L_\theta(B_m);\; -M(B_1), \dots, -M(B_m)\bigr)

    with the metric turned so that a better value is a lower loss. The gradient is that of a soft Kendall tau, to which
    every two blocks add; Spearman's hard correlation judges the result. Steps take turns: blocks of rows as they are,
    and a wide mixture of random temperatures, offsets of columns, target flips at a rate from U(0, 1) and scores that
    know nothing of the targets. The weights with the best hard correlation on real blocks of rows kept apart are kept.
    Where the best is not positive, the fit starts anew.

    Use it before training, through :meth:`metricgrad.Loss.prepare` or :meth:`metricgrad.ReLoss.fit`. It needs stored
    scores of a trained model and their true targets; from an untrained model's scores there is nothing to learn.

    Args:
        metric: what the loss shall rank like.
        block: rows that make one loss and one metric value; use the batch size of the training to come.
        values: blocks that make one rank correlation.
        steps: of Adam.
        lr: its learning rate.
        penalty: weight of the gradient penalty, the mean over rows of (norm of the summed loss's gradient - 1)^2;
            0 to 0.1. It steadies gradients and costs a second backward pass.
        patience: steps without a better hard correlation before it stops.
        restarts: how many times a fit with the wrong sign starts anew.
        paper: the released code's settings: flipped pseudo-labels alone, a penalty of 10 on the mean loss, Adam at 0.01
            with weight decay 1e-3, 128 rows a value, 256 values a correlation. It ranks real labels worse than
            cross-entropy does; for comparison.
        seed: of the blocks and of restarts.

    Cost: about 1,200 metric calls, and one forward and backward pass of the form over ``block * values`` rows a step.

    Raises:
        MetricgradError: for settings out of range, or when no restart found a positive correlation.

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022. Deviations: the gradient of a soft Kendall's
        tau in place of Spearman's rho, which on digits ranked blocks kept apart better for accuracy and average
        precision, the same for macro F1 and a little worse for F1; with ``paper``, rho with ranks by projection in
        place of sorting networks; real labels beside flipped ones; the penalty acts on rows, because on a batch's mean
        it forces a slope that grows with the batch; restarts.
    """

    kind: ClassVar[str] = "rank_correlation"

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        *,
        block: int = 64,
        values: int = 32,
        steps: int = 150,
        lr: float = 1e-3,
        penalty: float = 0.0,
        patience: int = 80,
        restarts: int = 3,
        paper: bool = False,
        seed: int = 0,
    ) -> None:
        published = {"block": 128, "values": 256, "lr": 0.01} if paper else {"block": block, "values": values, "lr": lr}
        super().__init__(metric, steps=steps, patience=patience, restarts=restarts, seed=seed, **published)
        self.penalty = 10.0 if paper else checked_number("penalty", penalty, zero=True)
        self.paper = paper
        if paper:
            self.turns, self.decay = (_PUBLISHED,), 1e-3

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        return {**super().config(), "penalty": self.penalty, "paper": self.paper}

    def _source(self, store: Store) -> Store:
        return _pseudo_labelled(store) if self.paper else store

    def _quality(self, form: NetworkForm, checks: Drawn) -> float:
        """The hard correlation; -1 where the loss does not vary."""
        scores, targets, badness = checks
        with torch.no_grad():
            found = spearman(form.over(scores, targets).double().cpu(), badness)
        return float(found.nan_to_num(-1.0))

    def _objective(self, form: NetworkForm, scores: Tensor, targets: Tensor, badness: Tensor) -> Tensor:
        """Minus the soft correlation, and the penalty."""
        if self.penalty:
            scores = scores.clone().requires_grad_()
        values = form.over(scores, targets)
        values, badness = values.double(), badness.to(values.device)
        if self.paper:
            objective = -spearman(values, badness, soft=_STRENGTH)
        else:
            objective = -kendall(values, badness, soft=_SOFTNESS)
        if self.penalty:
            rows = 1 if self.paper else scores.shape[1]
            (slopes,) = torch.autograd.grad(values.sum() * rows, scores, create_graph=True)
            norms = slopes.reshape(scores.shape[0] * scores.shape[1], -1).norm(dim=-1)
            objective = objective + self.penalty * (norms - 1).square().mean()
        return objective


def _pseudo_labelled(store: Store) -> Store:
    """The released code's data: what the model predicts stands for the truth before a share of it is flipped."""
    if store.layout == "maps":
        peak, width = store.scores.flatten(1).argmax(1), store.scores.shape[2]
        points = torch.stack([peak % width, torch.div(peak, width, rounding_mode="floor")], 1)
        return Store(store.scores, points.to(store.targets), "maps")
    if store.layout == "spans":
        return Store(store.scores, best_spans(store.scores), "spans")
    elementwise = store.scores.shape == store.targets.shape
    predicted = (store.scores > 0).to(store.targets.dtype) if elementwise else store.scores.argmax(-1)
    if not elementwise:
        predicted = torch.where(store.targets < 0, store.targets.to(predicted), predicted)  # padding stays padding
    return Store(store.scores, predicted)
