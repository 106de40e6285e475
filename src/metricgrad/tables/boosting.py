"""LightGBM on a table: the baseline that people use, and the winner where it wins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from metricgrad.decisions.identity import Identity
from metricgrad.losses.registry import Range
from metricgrad.metrics.metric import Metric
from metricgrad.tables.preprocessing import Layout
from metricgrad.tables.schema import Target
from metricgrad.tables.trees import BoostedTrees, restored
from metricgrad.training.batches import Data, context_of
from metricgrad.training.delivery import Asked, Delivery
from metricgrad.training.result import FitResult
from metricgrad.training.run_record import PlainRecord

#: What a study tunes, with the values that are tried first; they are LightGBM's own but for the smaller steps.
SPACE: dict[str, Range] = {
    "learning_rate": Range(0.01, 0.3, default=0.05),
    "num_leaves": Range(4, 128, default=31),
    "min_data_in_leaf": Range(2, 100, default=20),
    "feature_fraction": Range(0.4, 1.0, default=1.0, log=False),
    "lambda_l2": Range(1e-3, 30.0, default=1e-3),
}

#: What it is, in a line.
SUMMARY = "gradient-boosted trees on the standard loss, by LightGBM"

_ROUNDS = 600
_PATIENCE = 60
_JUDGED = 30
_WHOLE = ("num_leaves", "min_data_in_leaf")


def fit_trees(
    train: Data,
    valid: Data,
    *,
    layout: Layout,
    target: Target,
    metric: Metric,
    params: Mapping[str, float] | None = None,
    decision: Asked = "auto",
    seed: int = 0,
    share: float = 1.0,
) -> FitResult:
    """Grow trees on the standard loss, and keep as many rounds of them as are best by the metric on ``valid``.

    Rounds are to trees what epochs are to a network: at most 600 of them are grown, until the standard loss on
    ``valid`` has not fallen for 60; 30 evenly spread among them are judged by the metric, as a network's epochs are,
    and a decision is fitted on the validation scores of the best, as a network's is.

    Args:
        train: ``(inputs, targets)``, with weights or without, as :class:`metricgrad.tables.task.TableTask` loads them.
        valid: the same.
        layout: of the inputs.
        target: what is predicted.
        metric: what decides.
        params: of :data:`SPACE`; its defaults for those that are not given.
        decision: as in :func:`metricgrad.fit`.
        seed: of whatever is drawn.
        share: in (0, 1], of the 600 rounds.

    Returns:
        A :class:`metricgrad.FitResult` whose model is a :class:`metricgrad.tables.trees.BoostedTrees`.
    """
    import lightgbm

    outputs = len(target.classes) if target.type == "multiclass" else None
    given = {name: bounds.default for name, bounds in SPACE.items()} | dict(params or {})
    options = {
        **{name: round(value) if name in _WHOLE else value for name, value in given.items()},
        "objective": target.type, "seed": seed % 2**31, "num_threads": torch.get_num_threads(), "verbosity": -1,
        "deterministic": True, "force_row_wise": True, "early_stopping_round": _PATIENCE,
        **({} if outputs is None else {"num_class": outputs}),
    }  # fmt: skip
    codes = list(range(layout.numbers, layout.numbers + len(layout.levels)))
    known = lightgbm.Dataset(_matrix(train, layout), **_judged(train), categorical_feature=codes)
    held_back = lightgbm.Dataset(_matrix(valid, layout), **_judged(valid), reference=known)
    losses: dict[str, Any] = {}
    booster = lightgbm.train(
        options, known, max(1, round(share * _ROUNDS)), valid_sets=[known, held_back], valid_names=["train", "valid"],
        callbacks=[lightgbm.record_evaluation(losses)],
    )  # fmt: skip
    (of_round,) = losses["train"].values()
    delivery = Delivery(metric, decision, seed, context_of(valid))
    history, best, plain = _history(booster, valid, layout, delivery, of_round)
    model = BoostedTrees(booster.model_to_string(num_iteration=best), layout, outputs)
    result = FitResult(model.eval(), metric, history=history)
    result.settle(valid, delivery)
    if plain.state:
        rounds = int(plain.state["rounds"])
        model = BoostedTrees(booster.model_to_string(num_iteration=rounds), layout, outputs)
        if result.decision.kind == Identity.kind:
            return result.read_plainly(model, plain.valid, result.decision.findings.words)
        result.plain = partial(result.read_plainly, model, plain.valid)
    return result


def _history(
    booster: Any, valid: Data, layout: Layout, delivery: Delivery, losses: list[float]
) -> tuple[list[dict[str, float]], int, PlainRecord]:
    """The rounds that were judged; the best of them, the fewest trees among equals; and what is best read plainly."""
    grown = booster.current_iteration()
    matrix, targets = _matrix(valid, layout), valid[1]
    history, best, value, plain = [], grown, math.nan, PlainRecord()
    for rounds in np.unique(np.linspace(1, grown, min(grown, _JUDGED)).round().astype(int)).tolist():
        scores = torch.from_numpy(booster.predict(matrix, num_iteration=rounds, raw_score=True)).to(torch.float32)
        found = delivery.value_of_epoch(scores, targets)
        history.append({"epoch": rounds - 1, "train_loss": losses[rounds - 1], "valid": found, "seconds": 0.0})
        if math.isnan(value) or delivery.metric.is_better(found, value):
            best, value = rounds, found
        if not delivery.compares_plainly(scores, targets):
            plain.judge(delivery, scores, targets, partial(_numbered, rounds))
    return history, best, plain


def _numbered(rounds: int) -> dict[str, torch.Tensor]:
    return {"rounds": torch.tensor(rounds)}


def _matrix(part: Data, layout: Layout) -> np.ndarray:
    return restored(part[0], layout).double().numpy()


def _judged(part: Data) -> dict[str, Any]:
    """Targets, and weights of mean 1, since LightGBM's limits on leaves are sums of them."""
    _, targets, *weights = part
    found = {"label": targets.double().numpy()}
    return found | ({"weight": (weights[0] / weights[0].mean()).double().numpy()} if weights else {})
