"""ReLoss's aligner: before training, make the loss rank blocks of rows as the metric ranks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.aligners.fitting.augmentation import Augmentation
from metricgrad.aligners.fitting.block_fitting import BlockFitting
from metricgrad.aligners.fitting.blocks import ScoreStore
from metricgrad.aligners.fitting.labeled_blocks import LabeledBlocks
from metricgrad.functional import kendall, spearman
from metricgrad.functional.published_spearman import published_spearman
from metricgrad.losses.batches import checked_number
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.metrics.metric import Metric
from metricgrad.precision import wide

_PUBLISHED: tuple[Augmentation, ...] = ("label_noise",)
_SOFTNESS = 0.3
_OURS: dict[str, Any] = {"block": 64, "values": 32, "lr": 1e-3, "penalty": 0.0}
_RELEASED: dict[str, Any] = {"block": 128, "values": 256, "lr": 0.01, "penalty": 10.0}


class RankCorrelation(BlockFitting):
    r"""Maximises the rank correlation of a learned loss with the metric, over blocks of stored scores.

    .. math:: \max_\theta\; \rho\bigl(L_\theta(B_1), \dots, L_\theta(B_m);\; -M(B_1), \dots, -M(B_m)\bigr)

    with the metric turned so that a better value is a lower loss. The gradient is that of a soft Kendall tau, to which
    every two blocks add; Spearman's hard correlation judges the result. Steps take turns: blocks of rows as they are,
    and a wide mixture of random temperatures, offsets of columns, target flips at a rate from U(0, 1) and scores that
    know nothing of the targets. The weights with the best hard correlation on real blocks of held-out rows are kept.
    Where the best is not positive, the fit starts anew.

    Use it before training, through :meth:`metricgrad.Loss.prepare` or :meth:`metricgrad.ReLoss.fit`. It needs stored
    scores of a trained model and their true targets; from an untrained model's scores there is nothing to learn.

    With ``paper`` it is the released code, for comparison; ``benchmarks/reloss_pitfalls.py`` shows what each does:

    - labels are the model's own predictions, a random share of them made wrong, and no other blocks are drawn;
    - the gradient penalty acts on the batch's mean loss, with a weight of 10;
    - ranks are those of :func:`metricgrad.functional.published_spearman.published_spearman`: a logistic sorting
      network on losses that are not standardised, against hard ranks whose ties are broken by position; hard ranks of
      that kind also choose the weights that are kept, on real labels as there;
    - a fit with the wrong sign is kept: there is no restart and no error;
    - Adam has a weight decay of 1e-3, and the defaults of ``block``, ``values``, ``lr`` and ``penalty`` are theirs.

    Args:
        metric: what the loss shall rank like.
        block: rows that make one loss and one metric value; use the batch size of the training to come. None is 64, or
            128 with ``paper``. Small blocks tie on a metric of few values, and say less each.
        values: blocks that make one rank correlation. None is 32, or 256 with ``paper``.
        steps: of Adam.
        lr: its learning rate. None is 1e-3, or 0.01 with ``paper``.
        penalty: weight of the gradient penalty, the mean over rows of (norm of the summed loss's gradient - 1)^2;
            0 to 0.1. It steadies gradients and costs a second backward pass. None is 0, or 10 with ``paper``.
        patience: steps without a better hard correlation before it stops.
        restarts: how many times a fit with the wrong sign starts anew; none with ``paper``.
        per_class: rows of a class in a block of embeddings, from 2; use that of the training's batches. Else unused.
        paper: the released code in the respects above. On digits its fits differ from seed to seed, and models
            trained on most of them by SGD at the usual rate stayed at chance.
        seed: of the blocks and of restarts.

    Cost: about 1,200 metric calls, and one forward and backward pass of the form over ``block * values`` rows a step.

    Raises:
        MetricgradError: for settings out of range, or when no restart found a positive correlation.

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022. Deviations: the gradient of a soft Kendall's
        tau in place of Spearman's rho, which on digits ranked held-out blocks better for accuracy and average
        precision, the same for macro F1 and a little worse for F1; real labels beside flipped ones; the penalty acts
        on rows, because on a batch's mean it forces a slope that grows with the batch; mean ranks for ties; restarts.
        With ``paper`` there are four: how many steps; that a block's flipped labels are never the predicted one; that
        the fit starts from fresh weights, where the released script starts from a published checkpoint; and that the
        weights to keep are looked for several times in what was one of its epochs, after which alone it looks.
    """

    kind: ClassVar[str] = "rank_correlation"

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any] | None,
        *,
        block: int | None = None,
        values: int | None = None,
        steps: int = 150,
        lr: float | None = None,
        penalty: float | None = None,
        patience: int = 80,
        restarts: int = 3,
        per_class: int = 8,
        paper: bool = False,
        seed: int = 0,
    ) -> None:
        given = {"block": block, "values": values, "lr": lr, "penalty": penalty}
        chosen = (_RELEASED if paper else _OURS) | {name: value for name, value in given.items() if value is not None}
        weight = chosen.pop("penalty")
        super().__init__(
            metric, steps=steps, patience=patience, restarts=restarts, per_class=per_class, seed=seed, **chosen
        )
        self.penalty = checked_number("penalty", weight, zero=True)
        self.paper = paper
        if paper:
            self.turns, self.decay = (_PUBLISHED,), 1e-3

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        return {**super().config(), "penalty": self.penalty, "paper": self.paper}

    def correlation(self, values: Tensor, target_loss: Tensor, *, soft: bool) -> Tensor:
        """What a step maximises, or what chooses the weights that are kept.

        Args:
            values: ``(B,)`` losses of blocks.
            target_loss: ``(B,)``, the metric turned so that lower is better.
            soft: what a step maximises, differentiable in ``values``; else the hard correlation.

        Returns:
            0-d float64. Where losses do not vary, hard: NaN; with ``paper`` a number that means nothing.
        """
        values = wide(values)
        if self.paper:
            return published_spearman(values, target_loss, soft=soft)
        return kendall(values, target_loss, soft=_SOFTNESS) if soft else spearman(values, target_loss)

    def gradient_penalty(self, values: Tensor, scores: Tensor) -> Tensor:
        r"""The mean over rows of :math:`(\|\partial L / \partial s_n\| - 1)^2`.

        L is the summed loss of a block of N rows, N times its value, so that each row's gradient is its own; with
        ``paper`` the value itself, a mean, of which each row has a share of 1 / N.

        Args:
            values: ``(B,)`` of :meth:`metricgrad.losses.networks.base.NetworkForm.over`.
            scores: ``(B, N, ...)`` what they were computed from, with ``requires_grad``.

        Returns:
            0-d, differentiable in the form's parameters.
        """
        rows = 1 if self.paper else scores.shape[1]
        (slopes,) = torch.autograd.grad(values.sum() * rows, scores, create_graph=True)
        norms = slopes.reshape(scores.shape[0] * scores.shape[1], -1).norm(dim=-1)
        return (norms - 1).square().mean()

    def _source(self, store: ScoreStore) -> ScoreStore:
        return _pseudo_labelled(store) if self.paper else store

    def _kept(self, quality: float) -> bool:
        return self.paper or super()._kept(quality)

    def _quality(self, form: NetworkForm, checks: LabeledBlocks) -> float:
        """The hard correlation; -1 where the loss does not vary."""
        with torch.no_grad():
            found = self.correlation(checks.values(form).cpu(), checks.target_loss, soft=False)
        return float(found.nan_to_num(-1.0))

    def _objective(self, form: NetworkForm, drawn: LabeledBlocks) -> Tensor:
        """Minus the soft correlation, and the penalty."""
        scores = drawn.scores
        if self.penalty:
            scores = scores.clone().requires_grad_()
            drawn = dataclasses.replace(drawn, scores=scores)
        values = drawn.values(form)
        objective = -self.correlation(values, drawn.target_loss.to(wide(values)), soft=True)
        if self.penalty:
            objective = objective + self.penalty * self.gradient_penalty(values, scores)
        return objective


def _pseudo_labelled(store: ScoreStore) -> ScoreStore:
    """The released code's data: what the model predicts stands for the truth before a share of it is flipped."""
    return dataclasses.replace(store, targets=store.layout.predicted(store.scores, store.targets))
