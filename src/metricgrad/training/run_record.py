"""The epochs of a run, of one model or of several side by side: their values, the best weights, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict

from torch import Tensor, nn

from metricgrad.decisions.cross_fitting import FOLDS
from metricgrad.decisions.kinds import Stored
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits
from metricgrad.refactoring.direction import check_direction
from metricgrad.training.delivery import Delivery

_ROW = {"epoch", "train_loss", "valid", "seconds"}


class _EveryModel(TypedDict):
    value: Any
    state: dict[str, Tensor] | None
    history: list[dict[str, Any]]


class ModelState(_EveryModel, total=False):
    """What is kept of one model; ``value`` is NaN before any, and so may be numbers of the history."""

    decision: Stored | None


class _EveryRecord(TypedDict):
    epoch: int
    stale: int
    best: Any
    kept: list[dict[str, Any]]


class RecordState(_EveryRecord, total=False):
    """What :meth:`RunRecord.state` gives; ``best`` is NaN before any value, ``plain`` of runs that are read so too."""

    plain: list[dict[str, Any]]


class PlainState(TypedDict):
    """What is kept of one model as it is read plainly."""

    value: Any
    state: dict[str, Tensor]
    valid: Any
    best: list[Any]
    scores: Tensor | None


@dataclass
class ModelRecord:
    """One model of a run.

    Attributes:
        value: the best on validation so far; NaN before any.
        state: the weights it belongs to.
        history: one row for each epoch.
        decision: that it is delivered under, once that is known, as a file has it.
    """

    value: float = math.nan
    state: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    decision: Stored | None = None


@dataclass
class PlainRecord:
    """One model as it is read plainly, where its epochs are compared under a decision: another epoch may be best then.

    Attributes:
        value: the best on validation so far; NaN before any.
        state: the weights it belongs to.
        valid: what to expect of new rows: the value of all, each scored at the epoch that is best on other fifths.
        best: of each fifth, the best value of all other rows so far.
        scores: of every row, at the epoch of that value.
    """

    value: float = math.nan
    state: dict[str, Tensor] = field(default_factory=dict)
    valid: float = math.nan
    best: list[float] = field(default_factory=list)
    scores: Tensor | None = None

    def judge(
        self, delivery: Delivery, scores: Tensor, targets: Tensor, weights: Callable[[], dict[str, Tensor]]
    ) -> None:  # fmt: skip
        """End an epoch."""
        better, folds = delivery.is_better, delivery.folds(scores, targets)
        if better(value := delivery.plain_value(scores, targets), self.value):
            self.value, self.state = value, weights()
        if self.scores is None:
            self.scores, self.best = scores.detach().clone(), [math.nan] * FOLDS
        for fold in range(FOLDS):
            others = delivery.plain_value(scores, targets, folds != fold)
            if better(others, self.best[fold]):
                self.best[fold] = others
                self.scores[folds == fold] = scores.detach()[folds == fold]
        self.valid = delivery.plain_value(self.scores, targets)


class RunRecord:
    """What every run notes at the end of an epoch, whichever engine trains it; one model is the population of one.

    Args:
        delivery: its metric chooses the epoch of each model, by the value under the decision that is to be delivered; a
            NaN is never best.
        models: how many there are.
        patience: epochs without a better value after which the run is over; None for no such end.
        plainly: whether to keep what is best under the plain reading too, where that may be another epoch.

    Attributes:
        epoch: how many epochs have been judged.
        stale: epochs since any model was better than all were before.
        best: the best value of all; NaN before any.
        kept: of each model.
        plain: likewise, of one that is to be read plainly too.
    """

    def __init__(
        self, delivery: Delivery, models: int, patience: int | None = None, *, plainly: bool = False
    ) -> None:  # fmt: skip
        self.delivery, self.metric, self.patience = delivery, delivery.metric, patience
        self.epoch, self.stale, self.best = 0, 0, math.nan
        self.kept = [ModelRecord() for _ in range(models)]
        self.plain = [PlainRecord() for _ in range(models)] if plainly else []
        self._started = time.perf_counter()

    def over(self, epochs: int) -> bool:
        """Whether the last epoch has been judged."""
        return self.epoch >= epochs or (self.patience is not None and self.stale >= self.patience)

    def begin(self) -> None:
        """An epoch begins now."""
        self._started = time.perf_counter()

    def judge(
        self,
        scores: Sequence[Tensor],
        targets: Tensor,
        train_losses: Sequence[float],
        weights: Callable[[int], dict[str, Tensor]],
    ) -> list[dict[str, float]]:
        """End an epoch: measure every model, and keep the weights that are its best.

        Args:
            scores: of all validation rows, by each model.
            targets: theirs.
            train_losses: each model's mean over the epoch.
            weights: gives a copy of a model's weights by its number.

        Returns:
            The epoch's row of each model.
        """
        seconds = time.perf_counter() - self._started
        for model, (kept, each, loss) in enumerate(zip(self.kept, scores, train_losses, strict=True)):
            value = self.delivery.value_of_epoch(each, targets)
            kept.history.append({"epoch": self.epoch, "train_loss": loss, "valid": value, "seconds": seconds})
            if self.delivery.is_better(value, kept.value):
                kept.value, kept.state = value, weights(model)
        for model, (plain, each) in enumerate(zip(self.plain, scores, strict=False)):
            if not self.delivery.compares_plainly(each, targets):
                plain.judge(self.delivery, each, targets, partial(weights, model))
        if self.epoch == 0:
            check_direction(self.metric, scores[0], targets)
        self.epoch, self.stale = self.epoch + 1, self.stale + 1
        rows = [kept.history[-1] for kept in self.kept]
        for row in rows:
            if self.delivery.is_better(row["valid"], self.best):
                self.best, self.stale = row["valid"], 0
        return rows

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Every row so far with the number of its model, epoch by epoch."""
        for epoch in zip(*(kept.history for kept in self.kept), strict=True):
            yield from enumerate(epoch)

    def state(self) -> dict[str, Any]:
        """Plain containers and tensors."""
        return {
            "epoch": self.epoch,
            "stale": self.stale,
            "best": self.best,
            "kept": [vars(kept) for kept in self.kept],
            "plain": [vars(plain) for plain in self.plain],
        }

    def load_state(self, state: dict[str, Any], models: Sequence[nn.Module]) -> None:
        """Go on where :meth:`state` was taken, with models of the same shapes.

        Raises:
            MetricgradError: for anything else.
        """
        sound = fits(state, RecordState) and type(state["best"]) in (int, float)
        plain = state.get("plain", []) if sound else []
        if not sound or not all(map(_is_kept, state["kept"])) or not all(map(_is_plain, plain)):
            raise MetricgradError("last.ckpt holds no record of a run; pass resume=False to train anew")
        for model, kept in [*zip(models, state["kept"], strict=True), *zip(models, plain, strict=False)]:
            own = {name: value.shape for name, value in model.state_dict().items()}
            if kept["state"] and own != {name: value.shape for name, value in kept["state"].items()}:
                raise MetricgradError("last.ckpt keeps weights of another model; pass resume=False to train anew")
        self.epoch, self.stale, self.best = state["epoch"], state["stale"], state["best"]
        self.kept = [ModelRecord(**{**kept, "state": kept["state"] or {}}) for kept in state["kept"]]
        self.plain = [PlainRecord(**one) for one in plain] or self.plain


def _is_kept(kept: dict[str, Any]) -> bool:
    if not fits(kept, ModelState) or type(kept["value"]) not in (int, float):
        return False
    rows = kept["history"]
    return all(row.keys() >= _ROW and all(type(v) in (int, float) for v in row.values()) for row in rows)


def _is_plain(plain: dict[str, Any]) -> bool:
    if not fits(plain, PlainState):
        return False
    numbers, judged = [plain["value"], plain["valid"], *plain["best"]], plain["scores"] is not None
    return all(type(v) in (int, float) for v in numbers) and len(plain["best"]) == (FOLDS if judged else 0)
