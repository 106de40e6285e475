"""What is seen of a loss after a training: does it rank as the metric does, how does it push, which way did it go."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.aligners.fitting.agreement import agreement, as_json, losses_of
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.comparison.mismatch import drawn_blocks
from metricgrad.comparison.report.evidence_file import Curriculum, Mismatch, Push
from metricgrad.errors import MetricgradError
from metricgrad.losses.calling import called
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.metrics.metric import Metric
from metricgrad.training.weighted_order import as_often

BLOCK, BLOCKS = 64, 100
PERIODS, KNOBS = 200, 24
REACH, STEPS = 6.0, 49


def mismatch_seen(
    loss: nn.Module, metric: Metric, scores: Tensor, targets: Tensor, weight: Tensor | None = None
) -> Mismatch:
    """Loss and metric of the same blocks of rows, with their rank correlation; or why there are none.

    Args:
        loss: as the training left it.
        metric: what judges.
        scores: of the validation part, which the test part is spared for.
        targets: theirs.
        weight: ``(N,)``, so often a row is drawn, as in training; None: once.
    """
    if weight is not None:
        rows = as_often(weight)
        scores, targets = scores[rows], targets[rows]
    try:
        drawn, target_loss = drawn_blocks(metric, scores, targets, block=BLOCK, blocks=BLOCKS, seed=0)
        values = losses_of(lambda s, t: called(loss, s, t, {}), drawn)
    except MetricgradError as error:
        return {"missing": str(error)}
    found = agreement(values, target_loss)
    values_of_metric = -target_loss if metric.higher_is_better else target_loss
    points = torch.stack([values, values_of_metric.double()], 1)
    if not bool(points.isfinite().all()):
        return {"missing": "the loss or the metric is not finite on a block"}
    return Mismatch(
        **as_json(found), rows=len(drawn[0].targets), weighted=weight is not None, points=_short(points.tolist())
    )


def is_learned(loss: nn.Module) -> bool:
    """Whether the loss itself was learned: it has a network, or knobs that were turned."""
    networks = any(isinstance(module, NetworkForm | NeuralLoss) for module in loss.modules())
    return networks or isinstance(getattr(loss, "aligner", None), KnobController)


def push_of(loss: nn.Module, outputs: int | None) -> Push | None:
    """How hard a loss pushes the score of the right class up, as that score moves and the others are 0.

    Args:
        loss: as the training left it.
        outputs: classes, or None for one score of yes or no, whose two targets are then averaged.

    Returns:
        ``score`` and ``push``, the largest of which is 1: the size of a push is a learning rate, its course is the
        shape. None for a loss that makes nothing of such rows.
    """
    moved = torch.linspace(-REACH, REACH, STEPS)
    try:
        pushes = torch.stack([_push(loss, float(score), outputs) for score in moved])
    except (MetricgradError, RuntimeError):  # a loss of pairs, lists or sequences, which one score says nothing to
        return None
    if not bool(pushes.isfinite().all()) or float(pushes.abs().max()) == 0:
        return None
    return {"score": moved.tolist(), "push": [round(value, 5) for value in (pushes / pushes.abs().max()).tolist()]}


def curriculum_of(loss: nn.Module) -> Curriculum | None:
    """When which knob was where, of a loss whose knobs were turned; at most 24 of them, those that moved most."""
    aligner = getattr(loss, "aligner", None)
    if not isinstance(aligner, KnobController) or not aligner.history["step"]:
        return None
    history = aligner.history
    every = -(-len(history["step"]) // PERIODS)
    knobs = history["knobs"]
    most = sorted(knobs, key=lambda name: -max(abs(value - knobs[name][0]) for value in knobs[name]))[:KNOBS]
    return {
        "step": [int(step) for step in history["step"][::every]],
        "knobs": {name: [round(value, 5) for value in knobs[name][::every]] for name in most},
        "of": len(knobs),
    }


def _push(loss: nn.Module, score: float, outputs: int | None) -> Tensor:
    if outputs is None:
        targets = torch.tensor([0, 1])
        signs = torch.tensor([-1.0, 1.0])
        scores = (score * signs).requires_grad_()
        (gradient,) = torch.autograd.grad(called(loss, scores, targets, {}), scores)
        return -(gradient * signs).mean()
    targets = torch.arange(outputs)
    scores = (score * torch.eye(outputs)).requires_grad_()
    (gradient,) = torch.autograd.grad(called(loss, scores, targets, {}), scores)
    return -gradient.diagonal().mean()


def _short(rows: list[list[float]]) -> list[list[float]]:
    return [[float(f"{value:.6g}") for value in row] for row in rows]
