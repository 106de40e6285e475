"""AdaLFL: a loss network that learns while the model trains."""

from __future__ import annotations

from typing import Any, Literal

from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.checks import check_options
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.composite.residual import NEAR_ZERO, Residual
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.losses.registry import CLASSIFICATION, REGRESSION, Entry, Problem, Range, register

TASKS: dict[Problem, str] = {
    "classification": "cross_entropy",
    "binary": "cross_entropy",
    "multilabel": "cross_entropy",
    "regression": "mse",
    "auto": "task",
}


class AdaLFL(Loss):
    """A small network of (target, prediction), moved after every optimiser step by an exact hypergradient.

    Use it where validation batches are at hand and a schedule, early stopping or label smoothing would otherwise be
    tuned: a learned loss takes their part. Attach it to the training (:meth:`metricgrad.Loss.attach`); begin with
    :meth:`metricgrad.Loss.offline_start`, or with ``residual=True``, because a fresh network is random. Under plain SGD
    much of what it learns is a learning rate: compare it with cross-entropy at a tuned rate and with
    :class:`metricgrad.losses.composite.residual.LearnedRate`. With momentum it can overshoot, because it sees one step
    ahead.

    The paper's controls are cells of the grid: ``Loss(loss.form)`` after an offline start is ML3 (the loss is learned
    offline and frozen), ``Loss(NeuralLoss())`` a random network, ``Loss(LearnedRate(), LookAhead())`` a learned rate.

    Args:
        num_outputs: columns of the scores.
        kind: ``"classification"``, ``"binary"``, ``"multilabel"``, ``"regression"`` or ``"auto"``; see
            :class:`metricgrad.losses.networks.neural.NeuralLoss`.
        output: ``"none"`` or ``"softplus"``.
        residual: add the network, starting near zero, to the loss people use for the task, so that no offline start is
            needed; the paper's form is the network alone.
        meta_lr: ``lr`` under the name ``compare`` tunes it by, beside the learning rate of the model.
        seed: of everything random.
        options: keyword arguments of :class:`metricgrad.aligners.lookahead.look_ahead.LookAhead`: ``objective``, ``lr``
            (the meta-learning rate), ``clip``, ``every``.

    Example:
        >>> import torch, metricgrad as mg
        >>> model = torch.nn.Linear(4, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x, y = torch.randn(32, 4), torch.arange(32) % 3
        >>> loss = mg.AdaLFL(num_outputs=3)
        >>> handle = loss.attach(model, optimizer, valid=[(x[16:], y[16:])])
        >>> loss(model(x[:16]), y[:16]).backward()
        >>> optimizer.step()
        >>> int(loss.aligner.updates)
        1

    References:
        C. Raymond, Q. Chen, B. Xue and M. Zhang, "Meta-Learning Adaptive Loss Functions", TMLR 2025.
    """

    def __init__(
        self,
        num_outputs: int | None = None,
        kind: Problem = "classification",
        *,
        output: Literal["none", "softplus"] = "none",
        residual: bool = False,
        meta_lr: float | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        check_options("AdaLFL", options, LookAhead)
        if meta_lr is not None:
            options["lr"] = meta_lr
        if kind not in TASKS:
            raise MetricgradError(f"kind is {kind!r}; expected one of {', '.join(TASKS)}")
        start = NEAR_ZERO if residual else 1.0
        network = NeuralLoss(num_outputs, kind, output=output, start=start, seed=seed)
        super().__init__(
            Residual(TASKS[kind], network) if residual else network, LookAhead(seed=seed, **options), seed=seed
        )


register(
    "adalfl",
    Entry(
        AdaLFL,
        CLASSIFICATION | REGRESSION,
        "the standard loss plus a small network, learned while training by looking one step ahead on validation data",
        space={"meta_lr": Range(1e-4, 1e-2, default=1e-3)},
        passes_on_to=LookAhead,
        from_metric=lambda metric: {"kind": "auto", "residual": True},
    ),
)
