"""ALA: a parametric family of losses, moved by a policy that the metric on validation data rewards."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch.distributed as dist

from metricgrad.aligners.base import Aligner
from metricgrad.aligners.knobs.paper_settings import published_schedule
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.static import Static
from metricgrad.checks import check_options
from metricgrad.errors import MetricgradError
from metricgrad.loss import Loss
from metricgrad.losses.base import Form
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.losses.registry import CLASSIFICATION, Entry, Range, register
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.layouts.class_targets import ClassDim
from metricgrad.metrics.metric import Metric

Aligning = Literal["policy", "random_walk", "static"]


STEP = 0.3
"""A run of a hundred periods gets nowhere in the paper's steps of 0.1 (benchmarks/ala.py)."""


class ALA(Loss):
    """Cross-entropy that a policy bends, during training, towards what the metric on validation data rewards.

    Use it where labels are noisy or classes unequal and a clean validation part is at hand. It needs one more line
    than a plain loss: ``loss.attach(model, optimizer, valid=batches, total_steps=n)``, or
    ``loss.observe(scores, targets)`` by hand; :func:`metricgrad.fit` does it. Compare it with
    ``aligner="random_walk"``, which makes the same moves at random, and ``aligner="static"``, which makes none. To
    carry what was learned to other runs, train with ``learner="reinforce"`` and save the policy
    (``loss.aligner.save(path)``): the bandit that few knobs get by default learns anew in each run.

    Args:
        metric: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
        form: a form with knobs; by default a :class:`ClassificationFamily`, with ``paper=True`` the literal
            :class:`CorrelationMatrix`.
        num_outputs: scores of an item, 1 for ``(N,)`` scores; None takes the first batch's, except with ``paper=True``.
        aligner: ``"policy"``, or one of its controls.
        paper: the published settings of form and policy, for comparison: they collapse.
        class_dim: as in :class:`metricgrad.Loss`, as ``ignore_index``.
        ignore_index: likewise.
        seed: of its random choices.
        gather: with ``process_group`` as in :class:`metricgrad.Loss`, for data-parallel training.
        process_group: see there.
        options: keyword arguments of :class:`metricgrad.aligners.knobs.policy.Policy`; ``step_size`` is 0.3 unless
            given or ``paper``. The controls take the same and leave aside what they have no use for, so that a
            comparison changes ``aligner`` alone; with ``paper=True`` the walk has the published periods and bounds.

    Raises:
        MetricgradError: for a form without knobs, or options out of range.

    Example:
        >>> import torch, metricgrad as mg
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> loss = mg.ALA("accuracy", num_outputs=2, every=5)
        >>> handle = loss.attach(model, optimizer, valid=[(x, y)], total_steps=30)
        >>> for _ in range(30):
        ...     optimizer.zero_grad()
        ...     loss(model(x), y).backward()
        ...     _ = optimizer.step()
        >>> len(loss.aligner.history["metric"])
        6

    References:
        C. Huang, S. Zhai, W. Talbott, M. A. Bautista, S.-Y. Sun, C. Guestrin and J. Susskind, "Addressing the
        Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019. The default differs from the paper: a family of
        a few knobs that starts at cross-entropy, and the cures named in :class:`Policy`.
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        form: Form | None = None,
        num_outputs: int | None = 10,
        *,
        aligner: Aligning = "policy",
        paper: bool = False,
        seed: int = 0,
        gather: bool = True,
        process_group: dist.ProcessGroup | None = None,
        class_dim: ClassDim | None = None,
        ignore_index: int | None = None,
        **options: Any,
    ) -> None:
        judged_by = as_metric(metric)
        check_options("ALA", options, Policy, hidden=("paper", "seed"))
        if not paper:
            options = {"step_size": STEP, **options}
        if num_outputs is not None:
            checked_whole("num_outputs", num_outputs, least=1)
        if form is None and paper and num_outputs is None:
            raise MetricgradError(
                "num_outputs is None with paper=True, whose matrix has an entry for each pair of classes from the "
                "start; pass the number of classes"
            )
        if form is None:
            form = CorrelationMatrix(num_outputs or 0, bounded=False) if paper else ClassificationFamily(num_outputs)
        super().__init__(
            form, _aligner(aligner, judged_by, paper, seed, options), seed=seed, gather=gather,
            process_group=process_group, class_dim=class_dim, ignore_index=ignore_index,
        )  # fmt: skip


def tuned_family(
    *,
    balance: float = 0.0,
    exponent: float = 0.0,
    focus: float = 0.0,
    smoothing: float = 0.0,
    adjustment: float = 0.0,
) -> Loss:
    """ALA's form with knobs that stay where they are set: what a search before training has to offer.

    Args:
        balance: as the others, see :class:`ClassificationFamily`.
        exponent: see there.
        focus: see there.
        smoothing: see there.
        adjustment: see there.

    Raises:
        MetricgradError: for a value out of its bounds.
    """
    values = {
        "balance": balance, "exponent": exponent, "focus": focus, "smoothing": smoothing, "adjustment": adjustment,
    }  # fmt: skip
    form = ClassificationFamily(turns=[name for name, value in values.items() if value])
    for name, knob in form.knobs().items():
        if not knob.low <= values[name] <= knob.high:
            raise MetricgradError(f"{name} is {values[name]!r}; expected {knob.low:g} to {knob.high:g}")
        knob.parameter.fill_(values[name])
    return Loss(form)


def _aligner(kind: str, metric: Metric, paper: bool, seed: int, options: dict[str, Any]) -> Aligner:
    if kind == "policy":
        return Policy(metric, paper=paper, seed=seed, **options)
    if kind == "random_walk":
        kept = {name: value for name, value in options.items() if name in _names(RandomWalk)}
        return RandomWalk(metric, seed=seed, **{**(published_schedule(kept.get("every")) if paper else {}), **kept})
    if kind == "static":
        return Static()
    raise MetricgradError(f"aligner is {kind!r}; expected 'policy', 'random_walk' or 'static'")


def _names(aligner: type[Aligner]) -> list[str]:
    return [name for name in inspect.signature(aligner).parameters if name not in ("metric", "paper", "seed")]


register(
    "ala",
    Entry(
        ALA,
        CLASSIFICATION,
        "cross-entropy with knobs that a policy turns by the metric on validation data",
        takes_metric=True,
        passes_on_to=Policy,
        from_metric=lambda metric: {"num_outputs": None},
        controls=("ala_random_walk", "ala_static"),
    ),
)
register(
    "ala_random_walk",
    Entry(
        ALA,
        CLASSIFICATION,
        "ala with the same moves at random",
        role="control",
        takes_metric=True,
        passes_on_to=RandomWalk,
        from_metric=lambda metric: {"num_outputs": None, "aligner": "random_walk"},
        shows="that the policy is better than random moves",
    ),
)
register(
    "ala_static",
    Entry(
        ALA,
        CLASSIFICATION,
        "ala with nothing moved: cross-entropy",
        role="control",
        takes_metric=True,
        from_metric=lambda metric: {"num_outputs": None, "aligner": "static"},
        shows="that moving the knobs is better than leaving them",
    ),
)
register(
    "ala_grid",
    Entry(
        tuned_family,
        CLASSIFICATION,
        "ala's form with its knobs tuned before training and left there",
        role="control",
        space={
            "balance": Range(0.02, 1.0, default=0.1, log=False),
            "exponent": Range(0.02, 0.95, default=0.3, log=False),
            "focus": Range(0.02, 2.0, default=0.1, log=False),
            "smoothing": Range(0.01, 0.4, default=0.05, log=False),
            "adjustment": Range(0.02, 1.5, default=0.1, log=False),
        },
        shows="that moving the knobs is better than tuning them once",
    ),
)
