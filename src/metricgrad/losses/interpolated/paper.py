"""UniLoss's interpolation to the letter: anchors that are bit patterns, and the backward pass of the released code."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.interpolation import inverse_distance_weighting, released_gradient
from metricgrad.functional.leak import leaky_sigmoid, margins
from metricgrad.losses.interpolated.bounds import Bounds, Estimate
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.inverse_distance import Anchors
from metricgrad.losses.interpolated.options import check_options
from metricgrad.metrics.metric import Metric
from metricgrad.refactoring.anchors import bit_anchors, nearest
from metricgrad.refactoring.base import Refactoring
from metricgrad.refactoring.batch import Batch

Paper = Literal["published", "released"]
Gradient = Literal["true", "released"]


class PaperInterpolated(Interpolated):
    """Inverse distances over anchors made by flipping bits; for comparing with the paper, not for training.

    Of random bit patterns over pairs nearly all are cyclic, and no ranking realises them: they are valued at a
    ranking near them, or, in the released code, at 0.

    Args:
        metric: as for :class:`metricgrad.losses.interpolated.interpolated.Interpolated`.
        refactoring: likewise.
        paper: ``"published"``; ``"released"`` for the released code's anchors; None for score sets.
        gradient: ``"released"`` reproduces the sign error in the released backward pass.
        softness: likewise; 1 in the paper.
        share: share in (0, 1] of the comparisons looked at: of each row those of its target with the best-scored
            rivals, of each positive those with the best-scored negatives. The others count as decided right. 1 for
            score sets.
        warm_up: likewise.
        anchors: likewise.
        flips: likewise; one by default, as in the paper's appendix A.
        power: likewise.
        check_finite: likewise.

    References:
        Liu, Wang and Deng, "UniLoss: Unified Surrogate Loss by Adaptive Interpolation", ECCV 2020, section 3.4.
    """

    kind: ClassVar[str] = "paper_interpolated"
    _names: ClassVar[tuple[str, ...]] = (
        "paper", "gradient", "softness", "share", "warm_up", "anchors", "flips", "power", "check_finite",
    )  # fmt: skip

    def __init__(
        self,
        metric: Metric,
        *,
        refactoring: Refactoring | None = None,
        paper: Paper | None = "published",
        gradient: Gradient = "true",
        softness: float | Literal["auto", "once"] = 1.0,
        share: float = 1.0,
        warm_up: int = 0,
        anchors: int = 16,
        flips: int = 1,
        power: float = 1.0,
        check_finite: bool = True,
    ) -> None:
        super().__init__(
            metric, refactoring=refactoring, interpolation="inverse_distance", softness=softness, warm_up=warm_up,
            anchors=anchors, flips=flips, power=power, check_finite=check_finite,
        )  # fmt: skip
        check_options(share=share, paper=paper, gradient=gradient)
        if share < 1 and paper is None:
            raise MetricgradError(f"share is {share!r}; expected 1 with paper=None, which takes whole score sets")
        self.paper, self.gradient, self.share = paper, gradient, share

    @property
    def _anchors(self) -> Anchors:
        weighting = released_gradient if self.gradient == "released" else inverse_distance_weighting
        return Anchors(self.anchors, self.flips, self.power, weighting)

    def _interpolate(
        self, batch: Batch, refactoring: Refactoring, softness: Tensor, bounds: Bounds, generator: torch.Generator
    ) -> Estimate:
        if self.paper is None:
            return super()._interpolate(batch, refactoring, softness, bounds, generator)
        hard, targets, groups = batch.scores.detach(), batch.targets, batch.groups
        comparisons = refactoring.comparisons(batch.scores, targets, groups=groups)
        kept: Tensor | slice = slice(None)
        if self.share < 1:
            kept = nearest(comparisons, refactoring.owners(hard, targets, groups=groups), self.share)
        looked_at, released = comparisons[kept], self.paper == "released"
        bits = bit_anchors(
            looked_at.detach() > 0, each=self.anchors, flips=self.flips, released=released, generator=generator
        )
        whole = bits.new_ones(len(bits), len(comparisons))
        whole[:, kept] = bits
        stack = refactoring.score_sets(whole, hard, targets, groups=groups)
        values = batch.values(self.metric, stack)
        if released:
            exact = (refactoring.binaries_of(stack, targets, groups=groups) == whole).all(1)
            values = torch.where(exact, values, torch.zeros_like(values))
        soft = leaky_sigmoid(margins(looked_at, softness))
        return self._anchors.weighted(values, (soft - bits.to(soft)).square().sum(1), bounds.current)


def from_version_0_1(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Kind and options of what that version stored as ``"interpolated"``, whose literal modes were options of it."""
    options = dict(options)
    paper, gradient = options.pop("paper", None), options.pop("gradient", "true")
    if options.get("interpolation") != "inverse_distance" or (paper is None and gradient == "true"):
        return Interpolated.kind, options
    for name in ("interpolation", "q", "calls"):
        options.pop(name, None)
    return PaperInterpolated.kind, {**options, "paper": paper, "gradient": gradient}
