"""Two soft hinges of distances, whose sharpness decides how much hard pairs weigh; the plain hinges are among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import checked_number, mask_of
from metricgrad.losses.distances import distances

SOFTEST = 0.1
SHARPNESS = {"a": "near_hardness", "b": "far_hardness"}
"""The knob that holds each argument."""


class FocalWeighting(Form):
    r"""The focal loss of distances that ALA moves in metric learning.

    .. math:: \operatorname{mean}_{ap} \frac1a \log(1 + e^{a (d_{ap} - (\alpha - s))})
        + \operatorname{mean}_{an} \frac1b \log(1 + e^{-b (d_{an} - (\alpha + s))})

    with d the Euclidean distance of normalised embeddings, and s = 0 in the paper. The larger a and b, the more the
    pairs on the wrong side of :math:`\alpha` weigh beside the others. The knobs are the hardnesses a / (1 + a) and
    b / (1 + b), in which equal steps change the weights about equally: from 1/11, where all pairs weigh nearly the
    same, to 1, where a is infinite and each term is its limit, the hinge.

    **Members.** With both knobs at 1 it is, exactly, the mean over all pairs of each sort of

    .. math:: [d_{ap} - (\alpha - s)]_+ \quad\text{and}\quad [(\alpha + s) - d_{an}]_+

    which is the margin loss (:meth:`margin_loss`; :class:`metricgrad.losses.families.distance_mixture.DistanceMixture`
    divides the same sum by the number of terms above 0), and for s = 0 the contrastive loss with linear hinges at
    :math:`\alpha`.

    **Not the triplet loss**, and no sum over pairs is. Whatever the knobs, :math:`\alpha` and s, the loss of (a, p, n)
    is f(d_ap) + g(d_an), so that exchanging the negatives of two anchors leaves the sum over both as it was; that of
    :math:`[d_{ap} - d_{an} + m]_+` changes. Narrow classes that lie close and wide classes that stand far apart both
    cost nothing there, and one :math:`\alpha` cannot suit both. The mixture has the triplet loss as a member;
    :class:`metricgrad.losses.composite.mix.Mix` joins it to this form.

    Use it where few knobs are wanted, and the scale of the distances is known. Not where classes differ much in width.

    Args:
        a: sharpness for pairs of one class, from 0.1; None for the hinge itself.
        b: sharpness for pairs of two classes; None likewise.
        alpha: the distance between near and far, above 0; 1 in the paper.
        slack: s, from 0: how far from :math:`\alpha` a pair must be.

    Cost: O(N^2 D) time, O(N^2) memory.

    Raises:
        MetricgradError: for options out of range, and for scores that are no embeddings.

    Example:
        >>> form, embeddings = FocalWeighting(a=1, b=1), torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(form(embeddings, torch.tensor([0, 0, 1]), call=CallContext(0, 0))), 4)  # 2 log(1 + 1/e)
        0.6265

    References:
        C. Huang et al., "Addressing the Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019, the focal
        weighting for metric learning. The paper sums over sampled pairs; here it is the mean over all of each sort.
        Margin: C.-Y. Wu, R. Manmatha, A. Smola and P. Krähenbühl, "Sampling Matters in Deep Embedding Learning", ICCV
        2017, Eq. 5, with a boundary that is not learned.
    """

    kind: ClassVar[str] = "focal_weighting"

    def __init__(self, *, a: float | None = 4.0, b: float | None = 4.0, alpha: float = 1.0, slack: float = 0.0) -> None:
        super().__init__()
        self.start = {"a": a, "b": b}
        for name, value in self.start.items():
            hardness = torch.tensor(_hardness(name, value))
            self.register_parameter(SHARPNESS[name], nn.Parameter(hardness, requires_grad=False))
        self.alpha = checked_number("alpha", alpha)
        self.slack = checked_number("slack", slack, zero=True)

    @classmethod
    def margin_loss(cls, *, boundary: float = 1.2, slack: float = 0.2) -> FocalWeighting:
        """Started as the margin loss of Wu et al., averaged over all pairs of each sort."""
        return cls(a=None, b=None, alpha=boundary, slack=slack)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d, from 0; zero with a zero gradient for a batch without pairs of both sorts.

        Args:
            scores: ``(N, D)`` embeddings, D of 2 or more; normalised here.
            targets: ``(N,)`` integer class numbers.
            call: unused, nothing is random.
            context: ``mask``, ``(N,)`` booleans.
        """
        batch = distances(scores, targets, mask_of(context, type(self).__name__))
        if not batch.same.any() or batch.same.all():
            return (scores * 0).sum()
        near, far = (getattr(self, name).to(batch.values) for name in SHARPNESS.values())
        inward = _soft_hinge(batch.values[batch.same] - (self.alpha - self.slack), near)
        outward = _soft_hinge(self.alpha + self.slack - batch.values[~batch.same], far)
        return inward.mean() + outward.mean()

    def knobs(self) -> Mapping[str, Knob]:
        """``near_hardness``, a / (1 + a), and ``far_hardness``, b / (1 + b), from 1/11 to 1."""
        return {name: Knob(getattr(self, name), _hardness("a", SOFTEST), 1.0) for name in SHARPNESS.values()}

    @property
    def of_logits(self) -> bool:
        """Scores are embeddings."""
        return False

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {**self.start, "alpha": self.alpha, "slack": self.slack}


def _hardness(name: str, sharpness: float | None) -> float:
    """From 0 to 1, where 1 is a sharpness without end."""
    if sharpness is None:
        return 1.0
    value = checked_number(name, sharpness)
    if value < SOFTEST:
        raise MetricgradError(f"{name} is {sharpness!r}; expected a number from {SOFTEST:g}, or None for the hinge")
    return value / (1 + value)


def _soft_hinge(x: Tensor, hardness: Tensor) -> Tensor:
    """log(1 + exp(x / s)) s with the softness s = 1 / hardness - 1; the hinge where it is 0, to which it tends."""
    softness = (1 - hardness) / hardness
    soft = softness > 0
    divisor = torch.where(soft, softness, 1)  # where the hinge is taken, the other branch must have a finite slope
    return torch.where(soft, nn.functional.softplus(x / divisor) * divisor, x.relu())
