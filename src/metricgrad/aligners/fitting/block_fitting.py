"""What aligners share that fit a network before training: blocks of stored rows, held-out checks, restarts."""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.base import Aligner
from metricgrad.aligners.fitting.augmentation import Augmentation
from metricgrad.aligners.fitting.blocks import Block, ScoreStore, labelled_by
from metricgrad.aligners.fitting.labeled_blocks import LabeledBlocks
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.losses.batches import checked_number
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.progress import ProgressBar
from metricgrad.refactoring.probing.probe import check_direction

_REAL: tuple[Augmentation, ...] = ("real",)
_WIDE: tuple[Augmentation, ...] = ("tempered", "shifted", "flipped", "shifted", "random")

_MOST_LR = 1.0
_POOL = 512
_CHECKS = 128
_EVERY = 10
_HELD_OUT = 0.3


class BlockFitting(Aligner, abc.ABC):
    """Abstract: fits a network form to a metric over blocks of stored scores; see :class:`RankCorrelation`.

    Steps take turns: blocks of rows as they are, and a wide mixture of random temperatures, offsets of columns, target
    flips at a rate from U(0, 1) and scores that know nothing of the targets. The weights of the best quality on real
    blocks of held-out rows are kept; where the best is not positive, the fit starts anew.

    Args:
        metric: what the loss is fitted to; None only for a fitted one that a file makes again.
        block: rows that make one loss and one metric value; use the batch size of the training to come. Of a callable
            that takes images or sentences, these are the rows.
        values: blocks in a step.
        steps: of Adam.
        lr: its learning rate, up to 1: beyond it Adam leaves no weight where it was.
        patience: steps without a better quality before it stops.
        restarts: how many times a fit of no quality starts anew.
        per_class: rows of a class in a block of embeddings, from 2; use that of the training's batches. Else unused.
        seed: of the blocks and of restarts.
    """

    turns: tuple[tuple[Augmentation, ...], ...] = (_REAL, _WIDE)
    decay = 0.0

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any] | None,
        *,
        block: int = 64,
        values: int = 32,
        steps: int = 150,
        lr: float = 1e-3,
        patience: int = 80,
        restarts: int = 3,
        per_class: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(block, values, steps, per_class) < 2 or patience < 1 or restarts < 0:
            raise MetricgradError(
                f"block, values, steps, per_class, patience, restarts are "
                f"{(block, values, steps, per_class, patience, restarts)}; expected at least 2, 2, 2, 2, 1 and 0"
            )
        self._metric = None
        if metric is not None:
            given = as_metric(metric)
            self._metric, self.class_targets = given.of_read_batches(), given.class_targets
        self.block, self.values, self.steps = block, values, steps
        self.lr = checked_number("lr", lr, most=_MOST_LR)
        self.patience, self.restarts, self.per_class, self.seed = patience, restarts, per_class, seed
        #: None before a fit; empty where nothing was measured of it.
        self.report: dict[str, Any] | None = None

    @property
    def metric(self) -> Metric:
        """What the loss is fitted to.

        Raises:
            MetricgradError: where a fitted loss was loaded without it.
        """
        if self._metric is None:
            raise MetricgradError(
                "this loss was fitted to a metric of your own and loaded without it; it trains as it is, and to fit it "
                "anew pass the metric: load_loss(path, metric=...)"
            )
        return self._metric

    def unattended(self) -> str | None:
        """A network that was never fitted is random."""
        if self.report is not None:
            return None
        return (
            "this loss is a network that was never fitted, so the model trains on a random one; make it with "
            "ReLoss.fit(metric, scores, targets), or call loss.prepare(scores, targets) first"
        )

    @abc.abstractmethod
    def _objective(self, form: NetworkForm, drawn: LabeledBlocks) -> Tensor:
        """0-d, minimised: of the form on some blocks, with the target loss of each."""

    @abc.abstractmethod
    def _quality(self, form: NetworkForm, checks: LabeledBlocks) -> float:
        """How well the form does on held-out blocks: 1 is perfect, 0 or less is no use."""

    def _kept(self, quality: float) -> bool:
        """Whether the result of an attempt is kept; else the fit starts anew."""
        return quality > 0

    def _begin(self, checks: LabeledBlocks) -> None:
        """Called once before the attempts, with the held-out blocks."""

    def _source(self, store: ScoreStore) -> ScoreStore:
        """Where blocks to fit on are drawn from."""
        return store

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        names = ("block", "values", "steps", "lr", "patience", "restarts", "per_class", "seed")
        return {"metric": self._metric and self._metric.spec, **{name: getattr(self, name) for name in names}}

    def refusal(self, form: Form) -> str | None:
        """Only a network has something to fit before training."""
        return None if isinstance(form, NetworkForm) else "it has no network to fit before training"

    def get_extra_state(self) -> dict[str, Any] | None:
        """The report of the fit, so that it is saved with the loss."""
        return self.report

    def set_extra_state(self, state: dict[str, Any] | None) -> None:
        """Restore the report."""
        self.report = state

    def store(self, form: NetworkForm, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> ScoreStore:
        """Checked pairs to draw blocks from, as the form and the metric read them.

        Args:
            form: a network form.
            scores: stored logits, or embeddings.
            targets: their true targets.
            groups: as in :meth:`prepare`.

        Raises:
            MetricgradError: where one of form and metric reads embeddings and the other does not, or for groups that
                the form cannot read.
        """
        of_embeddings = self.metric.layout.of_embeddings
        if form.reader.of_embeddings != of_embeddings:
            reader, other = (self.metric.name, form.kind) if of_embeddings else (form.kind, self.metric.name)
            raise MetricgradError(
                f"{reader} reads embeddings and {other} does not; an EmbeddingNetwork goes with metrics of embeddings"
            )
        if groups is not None and not (form.reader.takes_groups or of_embeddings):
            raise MetricgradError(f"{form.kind} takes no groups: it does not read lists; leave them out")
        per_class = self.per_class if of_embeddings else None
        return ScoreStore.of(scores, targets, form.read, layout=self.metric.layout, groups=groups, per_class=per_class)

    def prepare(self, form: Form, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> None:
        """Fit the form.

        Args:
            form: a network form; its weights are replaced, and left without ``requires_grad``.
            scores: stored logits, any shape of :mod:`metricgrad.metrics.metric`.
            targets: their true targets.
            groups: ``(N,)`` integers, the query of each row; of embeddings, which model made them: a block holds whole
                queries, and embeddings of one model.

        Raises:
            MetricgradError: for a form that cannot read what the metric reads, for a direction that its values
                contradict, where the metric is undefined on nearly all blocks, or constant, or all restarts had no
                quality.
        """
        assert isinstance(form, NetworkForm)
        check_direction(self.metric, scores, targets, groups=groups if "groups" in self.metric.context else None)
        generator = torch.Generator().manual_seed(self.seed)
        store = self.store(form, scores, targets, groups=groups)
        train, held_out = store.split([1 - _HELD_OUT, _HELD_OUT], generator)
        checks = self._draw(form, held_out, _REAL, _CHECKS, generator)
        if bool((checks.target_loss == checks.target_loss[0]).all()):
            raise MetricgradError(
                f"metric {self.metric.name!r} is {abs(float(checks.target_loss[0])):g} on every block of stored rows, "
                "so there is no order to learn; store scores of a model that is further (or less far) in its training"
            )
        self._begin(checks)
        best = -math.inf
        with ProgressBar(self.steps, f"fit to {self.metric.name}") as bar:
            for attempt in range(self.restarts + 1):
                if attempt:
                    form.reset(form.seed + 7919 * attempt)
                best = self._fit(form, train, checks, generator, bar)
                if self._kept(best):
                    self.report = {}
                    return
        raise MetricgradError(
            f"no loss that ranks as {self.metric.name!r} does was found in {self.restarts + 1} attempts (best quality "
            f"{best:.2f}); store scores of a trained model, pass more rows or steps, or use a form that can express it"
        )

    def _fit(
        self,
        form: NetworkForm,
        train: ScoreStore,
        checks: LabeledBlocks,
        generator: torch.Generator,
        bar: ProgressBar,
    ) -> float:
        """One attempt; the form has the best weights afterwards. Returns their quality."""
        pool = min(self.steps * self.values, max(_POOL, self.values))
        drawn = [self._draw(form, self._source(train), kinds, pool, generator) for kinds in self.turns]
        form.requires_grad_(True)
        optimizer = torch.optim.Adam(form.parameters(), lr=self.lr, weight_decay=self.decay)
        best, best_step, state = -math.inf, 0, copy.deepcopy(form.state_dict())
        with torch.enable_grad():
            for step in range(self.steps):
                pool_of_turn = drawn[step % len(drawn)]
                some = torch.randperm(len(pool_of_turn.target_loss), generator=generator)[: self.values]
                optimizer.zero_grad()
                self._objective(form, pool_of_turn.some(some)).backward()
                optimizer.step()
                bar.update(step + 1)
                if (step + 1) % _EVERY == 0 or step + 1 == self.steps:
                    found = self._quality(form, checks)
                    if found > best:
                        best, best_step, state = found, step, copy.deepcopy(form.state_dict())
                    elif step - best_step >= self.patience:
                        break
        form.load_state_dict(state)
        form.requires_grad_(False)
        return best

    def _draw(
        self,
        form: NetworkForm,
        store: ScoreStore,
        kinds: Sequence[Augmentation],
        count: int,
        generator: torch.Generator,
    ) -> LabeledBlocks:
        size = store.fits(self.block)
        turn = 0

        def block() -> Block:
            nonlocal turn
            turn += 1
            return store.draw(size, kinds[turn % len(kinds)], generator)

        blocks, target_loss = labelled_by(self.metric, block, count, keep=store.kept(form))
        if len(blocks) < 2:
            raise MetricgradError(
                f"metric {self.metric.name!r} is undefined on nearly all blocks of {size} stored rows; "
                "pass a larger block, or rows of more than one class"
            )
        return LabeledBlocks.of(blocks, target_loss)
