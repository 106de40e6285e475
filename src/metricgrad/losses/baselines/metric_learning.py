"""Opponents for embeddings, from pytorch-metric-learning: an extra, imported when one of them is built."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.handle import Handle
from metricgrad.losses.batches import rows_of
from metricgrad.losses.calling import ScoreLoss
from metricgrad.losses.registry import RETRIEVAL, Entry, Range, register


class MetricLearning(ScoreLoss):
    """One of pytorch-metric-learning's losses of embeddings and class numbers, called as our losses are.

    Use it to compare with, or where a user of that library wants one of its losses in ``fit``. Class numbers may be of
    any size. A batch without pairs of both sorts costs zero with a zero gradient, which not all of them say by
    themselves.

    Args:
        name: a class of ``pytorch_metric_learning.losses``.
        options: its keyword arguments.

    Cost: that of the loss: O(N^2) memory for most, O(N^3) for SmoothAPLoss.

    Raises:
        MetricgradError: where pytorch-metric-learning is not installed, or has no such loss.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        try:
            losses = importlib.import_module("pytorch_metric_learning.losses")
        except ImportError as error:
            raise MetricgradError(
                "this loss comes from pytorch-metric-learning: run `pip install metricgrad[retrieval]`"
            ) from error
        if not hasattr(losses, name):
            raise MetricgradError(f"pytorch-metric-learning has no loss {name!r}")
        self.name = name
        self._told = False
        self.loss: nn.Module = getattr(losses, name)(**options)

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d.

        Args:
            scores: ``(N, D)`` embeddings.
            targets: ``(N,)`` integer class numbers.
            context: ``mask``, ``(N,)`` booleans; False rows are left out. Nothing else: the losses have no weights.
        """
        rows = rows_of(scores, targets, context, takes=(), who=self.name)
        scores, targets = rows.scores, rows.targets
        if scores.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
            raise MetricgradError(
                f"{self.name} needs scores (N, D), D of 2 or more, and integer class numbers (N,), got "
                f"{tuple(scores.shape)} and {targets.dtype} {tuple(targets.shape)}"
            )
        counts = targets.unique(return_counts=True)[1]
        if len(counts) < 2 or int(counts.max()) < 2:
            return (scores * 0).sum()
        if self.name == "SmoothAPLoss" and len(counts.unique()) > 1:
            raise MetricgradError(
                f"SmoothAPLoss needs as many items of every class in a batch, got {counts.tolist()}; use per_class= "
                "and leave classes of fewer items out"
            )
        if self.name == "SmoothAPLoss" and len(counts) != int(counts[0]) and not self._told:
            self._told = True
            warnings.warn(
                f"SmoothAPLoss of pytorch-metric-learning puts rows of several classes into one group unless a batch "
                f"has as many classes as items of each, and here are {len(counts)} classes of {int(counts[0])}: its "
                "value then depends on the order of the rows; set batch_size to the square of per_class",
                stacklevel=2,
            )
        order = targets.argsort(stable=True)  # SmoothAPLoss takes equal classes to stand together
        return self.loss(scores[order], self._numbers(targets)[order])

    def _numbers(self, targets: Tensor) -> Tensor:
        """Class numbers from 0."""
        return targets.unique(return_inverse=True)[1]

    def extra_repr(self) -> str:
        """Which loss."""
        return self.name


class ProxyAnchor(MetricLearning):
    """The proxy-anchor loss: one learned vector for each training class, which embeddings are compared with.

    The vectors train with the model: ``fit`` and :meth:`attach` give them a parameter group of their own in the model's
    optimiser, with a larger learning rate, as the paper does. Not for a number of classes far above that of a batch's
    memory, nor for classes that change while training goes on.

    Args:
        num_classes: how many classes the training part has; they get their vectors in the order of appearance. More
            than there are would leave vectors that repel everything.
        embedding_size: D.
        margin: of the cosines.
        alpha: sharpness.
        rate: the vectors' learning rate, in units of the model's.

    Cost: O(N C D) time, O(N C) memory.

    Raises:
        MetricgradError: for options left out, more classes than ``num_classes``, or embeddings of another size.

    References:
        S. Kim, D. Kim, M. Cho and S. Kwak, "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, Eq. 4; the rate of
        100 is its section 4.2.
    """

    classes: Tensor

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        embedding_size: int | None = None,
        margin: float = 0.1,
        alpha: float = 32.0,
        rate: float = 100.0,
    ) -> None:
        if not num_classes or not embedding_size:
            raise MetricgradError(
                f"num_classes is {num_classes!r} and embedding_size {embedding_size!r}: the proxy-anchor loss has a "
                "vector for each training class; say both, as proxy_anchor:num_classes=60,embedding_size=32"
            )
        super().__init__(
            "ProxyAnchorLoss", num_classes=num_classes, embedding_size=embedding_size, margin=margin, alpha=alpha
        )
        self.rate, self.size = rate, embedding_size
        self.register_buffer("classes", torch.full((num_classes,), -1, dtype=torch.long))

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d; see :class:`MetricLearning`."""
        if scores.ndim == 2 and scores.shape[1] != self.size:
            raise MetricgradError(f"embedding_size is {self.size}, but the embeddings have {scores.shape[1]} numbers")
        return super().forward(scores, targets, **context)

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, valid: Iterable[Any] | None = None, **other: Any
    ) -> Handle:
        """Train the vectors with the model's optimiser; ``detach()`` takes them out again."""
        self.to(next(model.parameters()).device)
        group = {"params": list(self.loss.parameters()), "lr": self.rate * optimizer.param_groups[0]["lr"]}
        optimizer.add_param_group(group)

        def remove() -> None:
            optimizer.param_groups[:] = [other for other in optimizer.param_groups if other is not group]

        return Handle(remove)

    def _numbers(self, targets: Tensor) -> Tensor:
        if self.classes.device != targets.device:
            self.to(targets.device)  # a loss follows the scores, which were checked to lie where the targets do
        for label in targets.unique().tolist():
            if bool((self.classes == label).any()):
                continue
            free = (self.classes < 0).nonzero()
            if not len(free):
                raise MetricgradError(
                    f"num_classes is {len(self.classes)}, but class {label} is one more; say how many classes the "
                    "training part has"
                )
            self.classes[free[0]] = label
        return (targets[:, None] == self.classes).long().argmax(1)


def multi_similarity(*, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5) -> MetricLearning:
    """Multi-similarity loss (Wang et al., CVPR 2019, Eq. 15), without its mining."""
    return MetricLearning("MultiSimilarityLoss", alpha=alpha, beta=beta, base=base)


def fast_ap(*, num_bins: int = 10) -> MetricLearning:
    """FastAP (Cakir et al., CVPR 2019): average precision by histogram binning."""
    return MetricLearning("FastAPLoss", num_bins=num_bins)


def smooth_ap(*, temperature: float = 0.01) -> MetricLearning:
    """SmoothAP (Brown et al., ECCV 2020) over the rows of a batch; classes of one size alone."""
    return MetricLearning("SmoothAPLoss", temperature=temperature)


register(
    "multi_similarity",
    Entry(
        multi_similarity,
        RETRIEVAL,
        "soft maxima over the pairs of each row; from pytorch-metric-learning",
        standard=True,
        space={"base": Range(0.1, 0.9, default=0.5, log=False)},
    ),
)
register(
    "proxy_anchor",
    Entry(
        ProxyAnchor,
        RETRIEVAL,
        "a learned vector for each class; say num_classes and embedding_size; from pytorch-metric-learning",
        standard=True,
        space={"rate": Range(1.0, 300.0, default=100.0)},
    ),
)
register(
    "fast_ap",
    Entry(
        fast_ap,
        RETRIEVAL,
        "average precision of each row from histograms; from pytorch-metric-learning",
        standard=True,
    ),
)
register(
    "retrieval_smooth_ap",
    Entry(
        smooth_ap,
        RETRIEVAL,
        "average precision of each row with sigmoids for ranks; from pytorch-metric-learning",
        standard=True,
        space={"temperature": Range(0.003, 0.3, default=0.01)},
    ),
)
