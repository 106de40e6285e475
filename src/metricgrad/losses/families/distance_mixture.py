"""A mixture of losses of distances, with the triplet and the margin loss among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.losses.batches import checked_number, mask_of
from metricgrad.losses.distances import distances

WEIGHTS = ("triplet", "pull", "push", "draw", "repel")
MOST = 2.0


class DistanceMixture(Form):
    r"""Increasing functions of the distance to the own class, decreasing ones of that to others, each with a weight.

    Over all triplets (a, p, n) of a batch, with d the Euclidean distance of normalised embeddings (0 to 2):

    .. math:: w_1 \operatorname{mean}_+ [d_{ap} - d_{an} + m]_+
        + \frac{w_2 \sum [d_{ap} - (\beta - s)]_+ + w_3 \sum [(\beta + s) - d_{an}]_+}{\#_+}
        + w_4 \operatorname{mean} d_{ap}^2 / 4 + w_5 \operatorname{mean} e^{-d_{an}^2}

    where :math:`\operatorname{mean}_+` is over the triplets above 0, and :math:`\#_+` counts the terms above 0 in both
    sums. The knobs are the weights ``triplet``, ``pull``, ``push``, ``draw`` and ``repel``, from 0 to 2. It starts as
    the triplet loss; :meth:`margin_loss` starts it as the margin loss. Both are members exactly.

    Use it as the form that a policy moves in metric learning, or as it is. Not where classes have scores of their own:
    there a classification loss learns faster. With mean-over-active terms the value may rise while the embeddings
    improve, as that of the plain losses does.

    Args:
        triplet: the first weight, from 0 to 2.
        pull: the weight of the hinge on the own class.
        push: the weight of the hinge on other classes.
        draw: the weight of the squared distance to the own class, as in the contrastive loss.
        repel: the weight of a Gaussian of the distance to other classes.
        margin: m, above 0.
        boundary: :math:`\beta`, above 0: between near and far.
        slack: s, from 0: how far from the boundary a pair must be.

    Cost: O(N^2 (D + log N)) time, O(N^2) memory; triplets are never listed.

    Raises:
        MetricgradError: for options out of range, and for scores that are no embeddings.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> form = DistanceMixture(margin=0.2)  # 0 and 1 alike: d = 1.414; 2 is 2 from 0 and 1.414 from 1
        >>> round(float(form(embeddings, torch.tensor([0, 0, 1]), call=CallContext(0, 0))), 4)
        0.2

    References:
        Triplet: F. Schroff, D. Kalenichenko and J. Philbin, "FaceNet", CVPR 2015, Eq. 3; over all triplets, averaged
        over those above 0, as A. Hermans, L. Beyer and B. Leibe, "In Defense of the Triplet Loss", 2017. Margin: C.-Y.
        Wu, R. Manmatha, A. Smola and P. Krähenbühl, "Sampling Matters in Deep Embedding Learning", ICCV 2017, Eq. 5,
        here over all triplets, and with a boundary that is not learned. Mixture: C. Huang et al., "Addressing the
        Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019; the paper's own functions are not public.
    """

    kind: ClassVar[str] = "distance_mixture"

    def __init__(
        self,
        *,
        triplet: float = 1.0,
        pull: float = 0.0,
        push: float = 0.0,
        draw: float = 0.0,
        repel: float = 0.0,
        margin: float = 0.2,
        boundary: float = 1.2,
        slack: float = 0.2,
    ) -> None:
        super().__init__()
        start = {"triplet": triplet, "pull": pull, "push": push, "draw": draw, "repel": repel}
        self.start = {name: checked_number(name, value, zero=True, most=MOST) for name, value in start.items()}
        for name, value in self.start.items():
            self.register_parameter(f"{name}_weight", nn.Parameter(torch.tensor(value), requires_grad=False))
        self.margin = checked_number("margin", margin)
        self.boundary = checked_number("boundary", boundary)
        self.slack = checked_number("slack", slack, zero=True)

    @classmethod
    def margin_loss(cls, *, boundary: float = 1.2, slack: float = 0.2) -> DistanceMixture:
        """Started as the margin loss of Wu et al."""
        return cls(triplet=0.0, pull=1.0, push=1.0, boundary=boundary, slack=slack)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d, from 0; zero with a zero gradient for a batch without a triplet.

        Args:
            scores: ``(N, D)`` embeddings, D of 2 or more; normalised here.
            targets: ``(N,)`` integer class numbers.
            call: unused, nothing is random.
            context: ``mask``, ``(N,)`` booleans.
        """
        batch = distances(scores, targets, mask_of(context, type(self).__name__))
        if not batch.compares:
            return (scores * 0).sum()
        weight = {name: getattr(self, f"{name}_weight").to(batch.values) for name in WEIGHTS}
        violated, count = batch.triplet_hinge(self.margin)
        value = weight["triplet"] * violated / count.clamp(min=1)
        near, far = batch.triplets_of(True), batch.triplets_of(False)
        inward = (batch.values - (self.boundary - self.slack)).clamp(min=0)
        outward = (self.boundary + self.slack - batch.values).clamp(min=0)
        active = (near * (inward > 0)).sum() + (far * (outward > 0)).sum()
        hinges = weight["pull"] * (near * inward).sum() + weight["push"] * (far * outward).sum()
        value = value + hinges / active.clamp(min=1)
        squared = batch.values.square()
        value = value + weight["draw"] * (near * squared).sum() / (4 * near.sum())
        value = value + weight["repel"] * (far * (-squared).exp()).sum() / far.sum()
        return value

    def knobs(self) -> Mapping[str, Knob]:
        """The five weights, from 0 to 2."""
        return {name: Knob(getattr(self, f"{name}_weight"), 0.0, MOST) for name in WEIGHTS}

    @property
    def of_logits(self) -> bool:
        """Scores are embeddings."""
        return False

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {**self.start, "margin": self.margin, "boundary": self.boundary, "slack": self.slack}
