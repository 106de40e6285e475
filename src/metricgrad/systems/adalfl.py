"""AdaLFL: a loss network that learns while the model trains."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch.distributed as dist

from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.checks import check_options
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.base import Form
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.composite.residual import NEAR_ZERO, LearnedRate, Residual
from metricgrad.losses.networks.neural import NeuralLoss
from metricgrad.losses.registry import CLASSIFICATION, REGRESSION, Entry, Problem, Range, register
from metricgrad.metrics.layouts.class_targets import ClassDim

TASKS: dict[Problem, str] = {
    "classification": "cross_entropy",
    "binary": "cross_entropy",
    "multilabel": "cross_entropy",
    "regression": "mse",
    "auto": "task",
}

_PUBLISHED_META_LR = 1e-5
_META_LR = {"meta_lr": Range(1e-4, 1e-2, default=1e-3)}


class AdaLFL(Loss):
    r"""A small network of (target, prediction), moved after every optimiser step by an exact hypergradient.

    By default it is *anchored*: the loss people use for the task plus ten times the network, which starts near zero,
    its gradient brought to the size of the standard loss's times a learned :math:`e^\rho`, :math:`|\rho| \le \log 10`
    (:class:`metricgrad.losses.composite.anchored.Anchored`). So it learns a shape, and within bounds a rate, and needs
    no offline start.

    Use it where validation batches are at hand whose labels are cleaner than those of training: attach it with
    ``valid=`` (:meth:`metricgrad.Loss.attach`). Not where inputs have moved or classes are rare: it was worse there
    than training on both parts (``benchmarks/clean_validation.py``). The bare network, ``anchored=False``, is the
    paper's form: begin it with :meth:`metricgrad.Loss.offline_start`, because a fresh network is random. Under plain
    SGD much of what it learns is a learning rate: compare it with cross-entropy at a tuned rate and with
    :class:`metricgrad.losses.composite.residual.LearnedRate`. With momentum it can overshoot, because it sees one step
    ahead.

    The paper's controls are cells of the grid: ``Loss(loss.form)`` after an offline start is ML3 (the loss is learned
    offline and frozen), ``Loss(NeuralLoss())`` a random network, ``Loss(LearnedRate(), LookAhead())`` a learned rate.

    Args:
        num_outputs: columns of the scores.
        kind: ``"classification"``, ``"binary"``, ``"multilabel"``, ``"regression"`` or ``"auto"``; see
            :class:`metricgrad.losses.networks.neural.NeuralLoss`.
        output: ``"none"`` or ``"softplus"``.
        anchored: see above. None: True, unless ``residual`` or ``paper`` is given.
        residual: add the network, starting near zero, to the loss people use for the task, whatever size it grows to.
        paper: the paper's recipe: the network alone, at a meta-learning rate of 1e-5 unless one is given. It begins
            with an offline start of 2,500 rounds, each of a new model:
            ``loss.offline_start(make_model, make_optimizer, batches, keep=1)``. Some seeds fail (docs/papers.md).
        meta_lr: ``lr`` under the name ``compare`` tunes it by, beside the learning rate of the model.
        seed: of everything random.
        gather: with ``process_group`` as in :class:`metricgrad.Loss`, for data-parallel training.
        process_group: see there.
        class_dim: as in :class:`metricgrad.Loss`, as ``ignore_index``.
        ignore_index: likewise.
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
        anchored: bool | None = None,
        residual: bool = False,
        paper: bool = False,
        meta_lr: float | None = None,
        seed: int = 0,
        gather: bool = True,
        process_group: dist.ProcessGroup | None = None,
        class_dim: ClassDim | None = None,
        ignore_index: int | None = None,
        **options: Any,
    ) -> None:
        check_options("AdaLFL", options, LookAhead)
        if meta_lr is not None:
            options["lr"] = meta_lr
        if paper:
            _as_published(options, anchored=anchored, residual=residual)
        if kind not in TASKS:
            raise MetricgradError(f"kind is {kind!r}; expected one of {', '.join(TASKS)}")
        if anchored and residual:
            raise MetricgradError("anchored and residual are both True; an anchored loss has the standard loss in it")
        anchored = not (residual or paper) if anchored is None else anchored
        start = NEAR_ZERO if residual or anchored else 1.0
        form: Form = NeuralLoss(num_outputs, kind, output=output, start=start, seed=seed)
        if residual:
            form = Residual(TASKS[kind], form)
        if anchored:
            corrected = Residual(TASKS[kind], form, factor=10.0)
            form = Anchored(TASKS[kind], corrected, weight=1.0, base_weight=0.0, momentum=0.0)
        super().__init__(
            form, LookAhead(seed=seed, **options), seed=seed, gather=gather, process_group=process_group,
            class_dim=class_dim, ignore_index=ignore_index,
        )  # fmt: skip


def _as_published(options: dict[str, Any], **ours: object) -> None:
    """Set the paper's meta-learning rate where none is given, refuse what is ours, say how to begin."""
    if given := [name for name, value in ours.items() if value]:
        raise MetricgradError(f"{given[0]} is True with paper=True, whose form is the network alone; leave it out")
    options.setdefault("lr", _PUBLISHED_META_LR)
    warnings.warn(
        "paper=True is a random network until loss.offline_start(make_model, make_optimizer, batches, keep=1) has "
        "taught it; what it learns differs from seed to seed, and with some of them a training stays at chance: "
        "look at a few",
        stacklevel=3,
    )


register(
    "adalfl",
    Entry(
        AdaLFL,
        CLASSIFICATION | REGRESSION,
        "the standard loss corrected by a small network that looks one step ahead on validation data while training",
        space=_META_LR,
        passes_on_to=LookAhead,
        from_metric=lambda metric: {"kind": "auto"},
        controls=("adalfl_rate",),
    ),
)


def learned_rate(*, meta_lr: float = _META_LR["meta_lr"].default, seed: int = 0, **options: Any) -> Loss:
    """AdaLFL without its network: the standard loss times one factor, which looks ahead as the network does."""
    given: dict[str, Any] = {"lr": meta_lr, "seed": seed, **options}
    return Loss(LearnedRate("task"), LookAhead(**given), seed=seed)


register(
    "adalfl_rate",
    Entry(
        learned_rate,
        CLASSIFICATION | REGRESSION,
        "adalfl without its network: the standard loss times one learned rate",
        role="control",
        space=_META_LR,
        passes_on_to=LookAhead,
        shows="that a shape was learned, beside a rate",
    ),
)
