"""ReLoss for a task that has no stored scores yet: fitted on scores of a short run of the standard loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.standard_loss import standard_loss
from metricgrad.metrics.metric import Metric
from metricgrad.systems.embedding import triplet
from metricgrad.systems.reloss import FittedNetwork, ReLoss
from metricgrad.training.balanced import ClassBalanced
from metricgrad.training.batches import as_tensor, is_pair
from metricgrad.training.recording import record_scores
from metricgrad.training.weighted_order import WeightedOrder

_HELD_OUT = 0.4
_STEPS = 256
_LR = 3e-3
#: scores of all recordings together, of which a vocabulary's are long: half a GiB
_STORED = 2**27
_RECORDINGS = 2 + _STEPS.bit_length()


def fitted_on_training(metric: Metric, *given: Any, anchor: float | None = None, **options: Any) -> ReLoss:
    """The loss of :func:`network_of_training`, with a weight of the standard loss as in :meth:`ReLoss.fit`."""
    return network_of_training(metric, *given, **options).anchored(anchor)


def network_of_training(
    metric: Metric,
    model: Callable[[], nn.Module],
    train: Any,
    *,
    batch_size: int,
    seed: int,
    per_class: int | None = None,
    **options: Any,
) -> FittedNetwork:
    """Fit a network to scores of a short run of the standard loss on the training part alone.

    A fresh model learns from three fifths of the rows; its scores of the other two (of fewer, where they would not fit
    into half a GiB), at steps 0, 1, 2, 4 and so on, are what the loss is fitted to. Validation and test rows are not
    looked at. The random state is the caller's to keep.

    Args:
        metric: what the loss shall rank like.
        model: makes the model.
        train: ``(inputs, targets)``, or with weights, by which the rows are then drawn.
        batch_size: of the run and of the blocks.
        seed: of everything random.
        per_class: of embeddings, rows of a class in a batch of the run and in a block; 8 by default.
        options: keyword arguments of :meth:`ReLoss.fit`, but for ``anchor``.

    Raises:
        MetricgradError: where the training part is no pair, or nothing that ranks like the metric is found.
    """
    if not is_pair(train):
        raise MetricgradError(
            f"reloss is fitted on (inputs, targets), not on a {type(train).__name__}; pass the task's training part as "
            "tensors, or a loss of your own: ReLoss.fit(metric, scores, targets)"
        )
    inputs, targets, *weights = (as_tensor(part) for part in train)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    if weights:
        order = order[weights[0][order] > 0]
    held_out, rest = order.split([round(_HELD_OUT * len(order)), len(order) - round(_HELD_OUT * len(order))])
    if weights:
        held_out, rest = (rows[WeightedOrder(weights[0][rows]).rows(generator)] for rows in (held_out, rest))
    torch.manual_seed(seed)
    embeddings = metric.layout.of_embeddings
    network, standard = model(), triplet() if embeddings else standard_loss(metric.layout)
    with torch.no_grad():
        size = network(inputs[:1]).numel()
    held_out = held_out[: max(64, _STORED // (size * _RECORDINGS))]
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LR)
    if embeddings:
        options["per_class"] = per_class = per_class or 8
        classes = max(2, batch_size // per_class)
        batches = ClassBalanced(targets[rest], classes=classes, per_class=per_class, batches=_STEPS, seed=seed)
    else:
        batches = (torch.randint(len(rest), (batch_size,), generator=generator) for _ in range(_STEPS))
    with record_scores(network, optimizer, [(inputs[held_out], targets[held_out])]) as recorded:
        for batch in batches:
            rows = rest[batch]
            optimizer.zero_grad()
            standard(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    groups = recorded.moments if embeddings else None
    return ReLoss.fitted(
        metric, recorded.scores, recorded.targets, groups=groups, seed=seed, block=batch_size, **options
    )
