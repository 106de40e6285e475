"""Interpolation quality against Hamming distance from the anchors, and the released gradient against the true one.

Quality: batches of 128 x 10 scores, accuracy, the paper's 49 anchors. A query takes one anchor's bits and flips a
share of them; its comparisons get logistic magnitudes of deviation 3.6. The interpolated value is set against the
accuracy of the query's own hard bits: the root of the summed squared error over 300 queries (the paper's L2, whose
sum it does not state) and Spearman's rank correlation.
"""

from __future__ import annotations

import torch
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor

import metricgrad as mg
from common import Store, arguments, interval
from cosines import binary, cosine, gradient, multiclass
from metricgrad.functional.interpolation import inverse_distance_weighting
from metricgrad.refactoring.anchors import bit_anchors
from metricgrad.refactoring.labels import Argmax

SEEDS, QUERIES = 10, 300
SHARES = (0.0, 1 / 512, 1 / 128, 1 / 32, 1 / 8, 1 / 2)
PAPER_L2 = (0.19, 0.19, 0.57, 2.83, 8.49, 12.25)
PAPER_RANK = (0.98, 0.97, 0.92, 0.70, 0.35, 0.15)


def accuracy(bits: Tensor) -> Tensor:
    """Of binaries (..., rows * 9): a row is right where all its comparisons are."""
    return bits.reshape(*bits.shape[:-1], -1, 9).all(-1).float().mean(-1)


def quality(seed: int) -> dict[str, list[float]]:
    """(L2, rank correlation) of inverse distances and of the local interpolation, at each distance."""
    generator = torch.Generator().manual_seed(seed)
    scores, targets = multiclass(128, seed)
    refactoring = Argmax()
    current = refactoring.binaries(scores, targets)
    anchors = bit_anchors(current, each=16, flips=1, released=False, generator=generator)
    values, length = accuracy(anchors), anchors.shape[1]
    out = {}
    for share in SHARES:
        truth, guess, local = [], [], []
        for _ in range(QUERIES):
            bits = anchors[torch.randint(len(anchors), (1,), generator=generator)[0]].clone()
            flipped = torch.randperm(length, generator=generator)[: round(share * length)]
            bits[flipped] = ~bits[flipped]
            uniform = torch.rand(length, generator=generator).clamp(1e-6, 1 - 1e-6)
            size = 2 * uniform.logit().abs()
            soft = torch.where(bits, size, -size).sigmoid()
            truth.append(float(accuracy(bits)))
            guess.append(float(inverse_distance_weighting((soft - anchors.float()).square().sum(1), values)))
            comparisons = torch.where(bits, size, -size).view(128, 9)
            others = torch.ones(128, 10, dtype=torch.bool).scatter(1, targets[:, None], False)
            made = torch.zeros(128, 10).masked_scatter(others, -comparisons)
            loss = mg.UniLoss("accuracy", softness=1.0, q=1.0)
            local.append(1 - float(loss(made, targets)))
        for name, got in (("inverse distance", guess), ("local", local)):
            error = float((torch.tensor(got) - torch.tensor(truth)).square().sum().sqrt())
            varies = len(set(truth)) > 1 and len(set(got)) > 1
            rank = float(spearmanr(got, truth).statistic) if varies else 0.0
            out[f"{name}/{share}"] = [error, rank]
    return out


def released(seed: int) -> dict[str, float]:
    """Cosine of the released gradient with the true one, on the same anchors."""
    out = {}
    for name, metric, draw, n in (("average_precision, N = 64", "average_precision", binary, 64),
                                  ("accuracy, N = 128", "accuracy", multiclass, 128)):  # fmt: skip
        scores, targets = draw(n, seed)
        grads = [
            gradient(mg.UniLoss(metric, paper="released", gradient=sign, seed=seed), scores, targets)  # type: ignore[arg-type]
            for sign in ("released", "true")
        ]
        out[name] = cosine(*grads)
    return out


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("quality", SEEDS)
    runs, signs = [], []
    for seed in track(range(SEEDS), "quality"):
        runs.append(store.get(f"quality/{seed}") or store.add(f"quality/{seed}", quality(seed)))
        signs.append(store.get(f"released/{seed}") or store.add(f"released/{seed}", released(seed)))
    found = {
        key: {"l2": interval([run[key][0] for run in runs]), "rank": interval([run[key][1] for run in runs])}
        for key in runs[0]
    }
    store.finish(
        shares=SHARES, paper_l2=PAPER_L2, paper_rank=PAPER_RANK, quality=found, queries=QUERIES,
        released={key: interval([run[key] for run in signs]) for key in signs[0]},
    )  # fmt: skip


if __name__ == "__main__":
    main()
