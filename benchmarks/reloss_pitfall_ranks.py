"""The pitfalls of ReLoss that lie in its ranks, each with ``RankCorrelation(paper=True)`` and with its default."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.fitting.agreement import losses_of
from metricgrad.aligners.fitting.blocks import ScoreStore, labelled_by
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.functional import relaxed_permutation, soft_rank
from metricgrad.functional.published_spearman import bitonic_sort
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.metrics.as_metric import as_metric
from surrogates import Pair

ALIGNERS = {"on": RankCorrelation("accuracy", paper=True), "off": RankCorrelation("accuracy")}
SPREADS = (0.1, 1.0, 10.0, 100.0, 1000.0)
ORDERS, RAISED = 100, 0.1


def scales(count: int = 64, draws: int = 10) -> dict[str, dict[str, dict[str, float]]]:
    """Switch to spread of the losses: the share of them with a gradient, and of neighbours better off swapped.

    Losses for the gradient follow the metric half way; those that are swapped stand in the metric's own order, so that
    no swap of two neighbours should raise the correlation.
    """
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(draws, count, generator=g, dtype=torch.float64)
    target_loss = torch.randperm(count, generator=g)
    ordered = drawn.sort(-1).values[:, target_loss]  # in the metric's order, blocks in any
    half = drawn / drawn.std(-1, keepdim=True) + target_loss / target_loss.double().std()
    half = half / half.std(-1, keepdim=True)
    places = target_loss.argsort()
    swaps = torch.arange(count).repeat(count - 1, 1)
    rows = torch.arange(count - 1)
    swaps[rows, places[:-1]], swaps[rows, places[1:]] = places[1:], places[:-1]
    out: dict[str, dict[str, dict[str, float]]] = {switch: {} for switch in ALIGNERS}
    for switch, aligner in ALIGNERS.items():
        for spread in SPREADS:
            leaf = (half * spread).requires_grad_()
            (slopes,) = torch.autograd.grad(aligner.correlation(leaf, target_loss, soft=True).sum(), leaf)
            values = ordered * spread
            here = aligner.correlation(values, target_loss, soft=True)
            there = aligner.correlation(values[:, swaps], target_loss, soft=True)
            out[switch][f"{spread:g}"] = {
                "gradient": float(((slopes * spread).abs() > 1e-9).double().mean()),
                "swapped": float((there > here[:, None] + 1e-12).double().mean()),
            }
    return out


def networks(count: int = 8, draws: int = 100) -> dict[str, dict[str, float]]:
    """The share of draws where raising one score lowers a sorted value, and where ranks leave the order of the scores.

    The default has no network; its comparators, of the arc tangent, are those of the library's own, at the steepness
    that undoes its standardisation. Its ranks are by projection.
    """
    x = torch.randn(draws, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    higher = (x[:, None] + RAISED * torch.eye(count, dtype=x.dtype)).flatten(0, 1)
    ranks = {"on": bitonic_sort(x)[1], "off": soft_rank(x)}
    out = {}
    for switch, sort in (("on", lambda row: bitonic_sort(row)[0]), ("off", _sorted_by_arc_tangents)):
        before, after = (torch.stack([sort(row) for row in rows]) for rows in (x, higher))
        lowered = after.reshape(draws, count, count) < before[:, None] - 1e-9
        inverted = ranks[switch].gather(-1, x.argsort(-1)).diff(dim=-1) < -1e-9
        out[switch] = {
            "falling": float(lowered.any(-1).any(-1).double().mean()),
            "inverted": float(inverted.any(-1).double().mean()),
        }
    return out


def _sorted_by_arc_tangents(row: Tensor) -> Tensor:
    return relaxed_permutation(row, 5.0 * float(row.std(correction=0))) @ row


def ties(moment: Pair, rows: int, seed: int) -> dict[str, Any]:
    """What the order in which the same 200 blocks are listed decides, where many tie on accuracy.

    For each switch, over random orders: the hard correlation of a constant loss (None where it has none), and the
    lowest and the highest of cross-entropy.
    """
    store, g = ScoreStore.of(*moment), torch.Generator().manual_seed(seed)
    blocks, target_loss = labelled_by(as_metric("accuracy"), lambda: store.draw(rows, "real", g), 200)
    losses = losses_of(CrossEntropy(), blocks)
    orders = torch.stack([torch.randperm(len(losses), generator=g) for _ in range(ORDERS)])
    pairs = len(target_loss) * (len(target_loss) - 1) / 2
    tied = sum(float(run * (run - 1) / 2) for run in target_loss.unique(return_counts=True)[1]) / pairs
    out: dict[str, Any] = {"tied": tied}
    for switch, aligner in ALIGNERS.items():
        constant = float(aligner.correlation(torch.zeros(orders.shape), target_loss[orders], soft=False).mean())
        hard = aligner.correlation(losses[orders], target_loss[orders], soft=False)
        out[switch] = {
            "constant": constant if constant == constant else None,
            "low": float(hard.min()), "high": float(hard.max()),
        }  # fmt: skip
    return out
