"""Two soft hinges of distances, whose sharpness decides how much hard pairs weigh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_number
from metricgrad.losses.distances import distances
from metricgrad.losses.form import Draw, Form, Knob
from metricgrad.losses.network import mask_of

SHARPEST = 20.0
SOFTEST = 0.1


class FocalWeighting(Form):
    r"""The focal loss of distances that ALA moves in metric learning.

    .. math:: \operatorname{mean}_{ap} \frac1a \log(1 + e^{a (d_{ap} - \alpha)})
        + \operatorname{mean}_{an} \frac1b \log(1 + e^{-b (d_{an} - \alpha)})

    with d the Euclidean distance of normalised embeddings. The larger a and b, the more the pairs on the wrong side of
    :math:`\alpha` weigh beside the others. Both terms are hinges in the limit alone, which is never reached: the knobs
    ``a`` and ``b`` go from 0.1 to 20, and at 20 a pair at distance :math:`\alpha` still costs log(2) / 20.

    Use it where few knobs are wanted. It treats pairs, not triplets: a class that is spread wide and stands far from
    all others costs something here and nothing in the triplet loss.

    Args:
        a: sharpness for pairs of one class, from 0.1 to 20.
        b: sharpness for pairs of two classes.
        alpha: the distance between near and far, above 0; 1 in the paper.

    Cost: O(N^2 D) time, O(N^2) memory.

    Raises:
        MetricgradError: for options out of range, and for scores that are no embeddings.

    Example:
        >>> form, embeddings = FocalWeighting(a=1, b=1), torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(form(embeddings, torch.tensor([0, 0, 1]), draw=Draw(0, 0))), 4)  # 2 log(1 + 1/e)
        0.6265

    References:
        C. Huang et al., "Addressing the Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019, the focal
        weighting for metric learning. The paper sums over sampled pairs; here it is the mean over all of each sort.
    """

    kind: ClassVar[str] = "focal_weighting"

    def __init__(self, *, a: float = 4.0, b: float = 4.0, alpha: float = 1.0) -> None:
        super().__init__()
        self.start = {name: checked_number(name, value, most=SHARPEST) for name, value in (("a", a), ("b", b))}
        for name, value in self.start.items():
            if value < SOFTEST:
                raise MetricgradError(f"{name} is {value!r}; expected a number from {SOFTEST:g} to {SHARPEST:g}")
            self.register_parameter(name, nn.Parameter(torch.tensor(value), requires_grad=False))
        self.alpha = checked_number("alpha", alpha)

    def forward(self, scores: Tensor, targets: Tensor, *, draw: Draw, **context: Tensor | None) -> Tensor:
        """0-d, from 0; zero with a zero gradient for a batch without pairs of both sorts.

        Args:
            scores: ``(N, D)`` embeddings, D of 2 or more; normalised here.
            targets: ``(N,)`` integer class numbers.
            draw: unused, nothing is random.
            context: ``mask``, ``(N,)`` booleans.
        """
        batch = distances(scores, targets, mask_of(context, type(self).__name__))
        if not batch.same.any() or batch.same.all():
            return (scores * 0).sum()
        beyond = batch.values - self.alpha
        a, b = (getattr(self, name).to(beyond) for name in ("a", "b"))
        near = nn.functional.softplus(a * beyond[batch.same]).mean() / a
        far = nn.functional.softplus(-b * beyond[~batch.same]).mean() / b
        return (near + far).to(scores.dtype)

    def knobs(self) -> Mapping[str, Knob]:
        """``a`` and ``b``, from 0.1 to 20."""
        return {name: Knob(getattr(self, name), SOFTEST, SHARPEST) for name in ("a", "b")}

    def config(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {**self.start, "alpha": self.alpha}
