"""ReLoss's aligner: before training, make the loss rank blocks of rows as the metric ranks them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from metricgrad.aligners.agreement import spearman
from metricgrad.aligners.bar import FitBar
from metricgrad.aligners.base import Aligner
from metricgrad.aligners.blocks import Block, Kind, Store, labelled_by
from metricgrad.errors import MetricgradError
from metricgrad.functional.pair_sums import pair_sum
from metricgrad.losses.batches import checked_number
from metricgrad.losses.form import Form
from metricgrad.losses.network import NetworkForm
from metricgrad.metric import Metric, as_metric
from metricgrad.metrics.correlation import average_ranks

_REAL: tuple[Kind, ...] = ("real",)
_WIDE: tuple[Kind, ...] = ("tempered", "shifted", "flipped", "shifted", "random")
_PUBLISHED: tuple[Kind, ...] = ("flipped",)
Drawn = tuple[Tensor, Tensor, Tensor]

_POOL = 512
_CHECKS = 128
_EVERY = 10
_HELD_OUT = 0.3
_SOFTNESS = 0.1


class RankCorrelation(Aligner):
    r"""Maximises the rank correlation of a learned loss with the metric, over blocks of stored scores.

    .. math:: \max_\theta\; \rho\bigl(L_\theta(B_1), \dots, L_\theta(B_m);\; -M(B_1), \dots, -M(B_m)\bigr)

    with soft ranks of the standardised losses and average ranks of the metric (turned so that a better value is a
    lower loss). Steps take turns: blocks of rows as they are, and a wide mixture of random temperatures, offsets of
    columns, target flips at a rate from U(0, 1) and scores that know nothing of the targets. The weights with the best
    hard correlation on real blocks of rows kept apart are kept. Where the best is not positive, the fit starts anew.

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
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022. Deviations: sigmoid ranks of standardised
        losses in place of sorting networks; real labels beside flipped ones; the penalty acts on rows, because on a
        batch's mean it forces a slope that grows with the batch; restarts.
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
        super().__init__()
        if min(block, values, steps) < 2 or patience < 1 or restarts < 0:
            raise MetricgradError(
                f"block, values, steps, patience, restarts are {(block, values, steps, patience, restarts)}; "
                "expected at least 2, 2, 2, 1 and 0"
            )
        self.metric = as_metric(metric)
        self.block, self.values, self.steps = block, values, steps
        self.lr = checked_number("lr", lr)
        self.penalty = checked_number("penalty", penalty, zero=True)
        self.patience, self.restarts, self.paper, self.seed = patience, restarts, paper, seed
        self.report: dict[str, Any] | None = None

    def refusal(self, form: Form) -> str | None:
        """Only a network has something to fit before training."""
        return None if isinstance(form, NetworkForm) else "it has no network to fit before training"

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        names = ("block", "values", "steps", "lr", "penalty", "patience", "restarts", "paper", "seed")
        return {"metric": self.metric.spec, **{name: getattr(self, name) for name in names}}

    def get_extra_state(self) -> dict[str, Any] | None:
        """The report of the fit, so that it is saved with the loss."""
        return self.report

    def set_extra_state(self, state: dict[str, Any] | None) -> None:
        """Restore the report."""
        self.report = state

    def prepare(self, form: Form, scores: Tensor, targets: Tensor) -> None:
        """Fit the form.

        Args:
            form: a network form; its weights are replaced, and left without ``requires_grad``.
            scores: stored logits, any shape of :mod:`metricgrad.metric`.
            targets: their true targets.

        Raises:
            MetricgradError: where the metric is undefined on nearly all blocks, or constant, or all restarts had
                the wrong sign.
        """
        assert isinstance(form, NetworkForm)
        generator = torch.Generator().manual_seed(self.seed)
        train, held_out = Store.of(scores, targets, maps=self.metric.maps).split([1 - _HELD_OUT, _HELD_OUT], generator)
        checks = self._draw(held_out, _REAL, _CHECKS, generator)
        if bool((checks[2] == checks[2][0]).all()):
            raise MetricgradError(
                f"metric {self.metric.name!r} is {abs(float(checks[2][0])):g} on every block of stored rows, so there "
                "is no order to learn; store scores of a model that is further (or less far) in its training"
            )
        best = -math.inf
        with FitBar(self.steps, f"fit to {self.metric.name}") as bar:
            for attempt in range(self.restarts + 1):
                if attempt:
                    form.reset(form.seed + 7919 * attempt)
                best = self._fit(form, train, checks, generator, bar)
                if best > 0:
                    return
        raise MetricgradError(
            f"no loss that ranks as {self.metric.name!r} does was found in {self.restarts + 1} attempts (correlation "
            f"{best:.2f}); store scores of a trained model, pass more rows or steps, or use a form that can express it"
        )

    def _fit(
        self,
        form: NetworkForm,
        train: Store,
        checks: Drawn,
        generator: torch.Generator,
        bar: FitBar,
    ) -> float:
        """One attempt; the form has the best weights afterwards. Returns their hard correlation."""
        count = 256 if self.paper else self.values
        pool = min(self.steps * count, max(_POOL, count))
        turns = (_PUBLISHED,) if self.paper else (_REAL, _WIDE)
        drawn = [self._draw(train, kinds, pool, generator) for kinds in turns]
        form.requires_grad_(True)
        decay = 1e-3 if self.paper else 0.0
        optimizer = torch.optim.Adam(form.parameters(), lr=0.01 if self.paper else self.lr, weight_decay=decay)
        best, best_step, state = -math.inf, 0, copy.deepcopy(form.state_dict())
        with torch.enable_grad():
            for step in range(self.steps):
                scores, targets, badness = drawn[step % len(drawn)]
                some = torch.randperm(len(badness), generator=generator)[:count]
                optimizer.zero_grad()
                self._objective(form, scores[some], targets[some], badness[some]).backward()
                optimizer.step()
                bar.update(step + 1)
                if (step + 1) % _EVERY == 0 or step + 1 == self.steps:
                    found = _correlation(form, checks)
                    if found > best:
                        best, best_step, state = found, step, copy.deepcopy(form.state_dict())
                    elif step - best_step >= self.patience:
                        break
        form.load_state_dict(state)
        form.requires_grad_(False)
        return best

    def _draw(self, store: Store, kinds: Sequence[Kind], count: int, generator: torch.Generator) -> Drawn:
        size = min(128 if self.paper else self.block, max(2, len(store) // 2))
        turn = 0

        def block() -> Block:
            nonlocal turn
            turn += 1
            return store.draw(size, kinds[turn % len(kinds)], generator)

        if self.paper and kinds == _PUBLISHED:
            store = _pseudo_labelled(store)
        blocks, badness = labelled_by(self.metric, block, count)
        if len(blocks) < 2:
            raise MetricgradError(
                f"metric {self.metric.name!r} is undefined on nearly all blocks of {size} stored rows; "
                "pass a larger block, or rows of more than one class"
            )
        scores, targets = (torch.stack(side) for side in zip(*blocks, strict=True))
        return scores, targets, badness

    def _objective(self, form: NetworkForm, scores: Tensor, targets: Tensor, badness: Tensor) -> Tensor:
        """Minus the soft correlation, and the penalty."""
        penalty = 10.0 if self.paper else self.penalty
        if penalty:
            scores = scores.clone().requires_grad_()
        values = form.over(scores, targets)
        objective = -soft_spearman(values, badness.to(values.device))
        if penalty:
            rows = 1 if self.paper else scores.shape[1]
            (slopes,) = torch.autograd.grad(values.sum() * rows, scores, create_graph=True)
            norms = slopes.reshape(scores.shape[0] * scores.shape[1], -1).norm(dim=-1)
            objective = objective + penalty * (norms - 1).square().mean()
        return objective


def soft_spearman(values: Tensor, fixed: Tensor) -> Tensor:
    """Rank correlation, differentiable in the values: sigmoid ranks of the standardised values, hard ranks of the rest.

    Zero, with a zero gradient, where one side does not vary.
    """
    values = values.double()
    standard = (values - values.mean()) / (values.std() + 1e-12)
    soft = pair_sum(standard / _SOFTNESS, standard / _SOFTNESS)
    x, y = (r - r.mean() for r in (soft, average_ranks(fixed)))
    return (x * y).sum() / (x.square().sum() * y.square().sum() + 1e-12).sqrt()


def _correlation(form: NetworkForm, checks: Drawn) -> float:
    """Hard, on blocks kept apart; -1 where the loss does not vary."""
    scores, targets, badness = checks
    with torch.no_grad():
        found = spearman(form.over(scores, targets).double().cpu(), badness)
    return float(found.nan_to_num(-1.0))


def _pseudo_labelled(store: Store) -> Store:
    """The released code's data: what the model predicts stands for the truth before a share of it is flipped."""
    if store.maps:
        peak, width = store.scores.flatten(1).argmax(1), store.scores.shape[2]
        points = torch.stack([peak % width, torch.div(peak, width, rounding_mode="floor")], 1)
        return Store(store.scores, points.to(store.targets), maps=True)
    elementwise = store.scores.shape == store.targets.shape
    predicted = (store.scores > 0).to(store.targets.dtype) if elementwise else store.scores.argmax(-1)
    return Store(store.scores, predicted)
