"""What a learned loss reads of a batch: checked shapes, the readings its network gets, and the loss used today."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from metricgrad.metrics.decoding import is_binary

BatchLoss = Callable[[Tensor, Tensor], Tensor]


class Reader(abc.ABC):
    """Abstract: one side of a :class:`metricgrad.losses.networks.base.NetworkForm`; the other is its network."""

    #: Whether targets are labels of rows or entries, for which cross-entropy and the error rate mean something.
    of_labels: ClassVar[bool] = False
    #: Whether scores are embeddings, whose columns are no classes.
    of_embeddings: ClassVar[bool] = False
    #: Whether ``(N,)`` scores may be lists of several queries: the value is then the mean over the queries.
    takes_groups: bool = False
    #: Of :meth:`standard`, in reports.
    standard_name: ClassVar[str] = "standard"

    @abc.abstractmethod
    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """One batch, checked, in the shapes of :meth:`readings` without their first axis; ``who`` is for messages."""

    @abc.abstractmethod
    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """What the network gets of B batches of one size, differentiable in the scores.

        Args:
            scores: ``(B, ...)``, as :meth:`read` gives them.
            targets: likewise.
        """

    @abc.abstractmethod
    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d: the loss people use today for such batches, which a fitted form must beat."""

    def rivals(self) -> Mapping[str, BatchLoss]:
        """What else a report shows beside the loss, because it tells why the loss is better."""
        return {}

    def condensed(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One batch of :meth:`read`, as small as it can be with the same readings and the same standard loss.

        Fits keep hundreds of batches; what reads little of long scores overrides it. A fit's gradient penalty and its
        report's derivatives are then those by the condensed scores.
        """
        return scores, targets

    def target_direction(self, gradient: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
        """The derivative of each entry's score in the direction of its target.

        Args:
            gradient: in the shape of the scores.
            scores: of one batch of :meth:`read`.
            targets: likewise; entries below 0 are padding where they are classes.

        Returns:
            ``(entries,)``.
        """
        if scores.ndim == targets.ndim + 1:
            kept = targets >= 0
            return gradient.gather(-1, targets.long().clamp(min=0)[..., None])[..., 0][kept]
        direction = 2 * targets.to(scores.dtype) - 1 if is_binary(targets) else (targets - scores).sign()
        return (gradient * direction).flatten()
