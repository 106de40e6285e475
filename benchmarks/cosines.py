"""How much of each interpolation's gradient is the metric: cosines between gradients in the scores.

Same scores, same seed, same refactoring, so the same anchors or moves; only the metric's values differ. A cosine near 1
between two metrics that disagree means that the interpolation does not listen to the metric.
"""

from __future__ import annotations

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import Store, arguments, interval
from metricgrad.losses.baselines.margin import Margin

SEEDS = 20
SIZES = (128, 1024)
RECALL = "recall_at_precision:precision=0.5"
BINARY = [("average_precision", "auroc"), ("average_precision", RECALL), ("auroc", RECALL)]
MULTICLASS = [("accuracy", "macro_f1"), ("accuracy", "quadratic_kappa"), ("macro_f1", "quadratic_kappa")]
FORMS: dict[str, dict[str, object]] = {
    "local": {"interpolation": "local"},
    "inverse_distance": {"interpolation": "inverse_distance"},
    "paper": {"paper": True},
}


def binary(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """10 % positives; the scores of a half-trained network: a signal of 0 to 2 deviations."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.zeros(n, dtype=torch.long)
    targets[: n // 10] = 1
    signal = 2 * torch.rand(1, generator=generator)
    return torch.randn(n, generator=generator) + signal * targets, targets


def multiclass(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """10 classes, sizes falling geometrically 20:1; a signal of 0 to 2 deviations for the right class."""
    generator = torch.Generator().manual_seed(seed)
    rate = 20.0 ** (-torch.arange(10) / 9)
    targets = torch.multinomial(rate, n, True, generator=generator)
    signal = 2 * torch.rand(1, generator=generator)
    return torch.randn(n, 10, generator=generator) + signal * nn.functional.one_hot(targets, 10), targets


def gradient(loss: nn.Module, scores: Tensor, targets: Tensor) -> Tensor:
    """Of the loss in the scores, flat."""
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    assert leaf.grad is not None
    return leaf.grad.reshape(-1)


def uniloss(metric: str, form: str, seed: int, rank_only: bool = False) -> nn.Module:
    """UniLoss at softness 1; ``rank_only`` says 1 for good anchors and 0 for all others, whatever the metric."""
    loss = mg.UniLoss(metric, softness=1.0, seed=seed, **FORMS[form])  # type: ignore[arg-type]
    if rank_only:
        loss.form._values = lambda batch, stack: (
            (  # type: ignore[method-assign]
                torch.arange(len(stack)) < 17
            ).to(batch.scores)
            if len(stack) > 3
            else torch.tensor([0.0, 1.0, 0.0]).to(batch.scores)
        )
    return loss


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two gradients; 0 where one of them vanishes."""
    return float(nn.functional.cosine_similarity(a, b, 0))


def one(form: str, n: int, seed: int) -> dict[str, float]:
    """All cosines of one draw of scores."""
    out = {}
    for kind, draw, pairs in (("binary", binary, BINARY), ("multiclass", multiclass, MULTICLASS)):
        scores, targets = draw(n, seed)
        names = sorted({name for pair in pairs for name in pair})
        grads = {name: gradient(uniloss(name, form, seed), scores, targets) for name in names}
        blind = gradient(Margin(between="pairs" if kind == "binary" else "items"), scores, targets)
        for a, b in pairs:
            out[f"{a} | {b}"] = cosine(grads[a], grads[b])
        for name in names:
            out[f"{name} | blind margin"] = cosine(grads[name], blind)
        if form != "local":
            first = pairs[0][0]
            out[f"{first} | good 1, else 0"] = cosine(
                grads[first], gradient(uniloss(first, form, seed, rank_only=True), scores, targets)
            )
    return out


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("cosines", SEEDS)
    cells = [(form, n) for n in SIZES for form in FORMS if not (form == "paper" and n > 128)]
    table = {}
    for form, n in cells:
        runs = []
        for seed in track(range(SEEDS), f"{form}, N = {n}"):
            key = f"{form}/{n}/{seed}"
            runs.append(store.get(key) or store.add(key, one(form, n, seed)))
        table[f"{form}/{n}"] = {name: interval([run[name] for run in runs]) for name in runs[0]}
    store.finish(cosines=table)


if __name__ == "__main__":
    main()
