"""Controls: shuffled or constant values, no anchors, and the wrong metric, each tuned by the same four trials.

One training is judged by all three metrics of its family: for each metric the trial and the epoch are chosen by that
metric on validation, the test part is scored at that choice. Six seeds redraw the split. The four trials
are two learning rates by two softnesses; cross-entropy, which has no softness, gets four learning rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

import metricgrad as mg
from common import BinaryCrossEntropy, Store, arguments, interval, paired
from metricgrad.losses import interpolated
from metricgrad.losses.margin import Margin
from metricgrad.models.mlp import mlp
from metricgrad.tasks.split import Splits, standardise
from training import Recipe, selected, train
from where_it_pays import fashion_pixels

SEEDS, TUNING_SEED = 6, 1_000_000
Trial = tuple[float, float]
TRIALS: list[Trial] = [(1e-3, 0.3), (1e-3, 1.0), (4e-3, 0.3), (4e-3, 1.0)]
TRIALS_CE: list[Trial] = [(5e-4, 1.0), (1e-3, 1.0), (2e-3, 1.0), (4e-3, 1.0)]
FAMILIES: dict[str, list[str]] = {
    "binary": ["average_precision", "auroc", "recall_at_precision:precision=0.7"],
    "multiclass": ["accuracy", "macro_f1", "quadratic_kappa"],
}


def load(family: str, seed: int) -> Splits:
    """Fashion-MNIST: shirts against the rest at 5 %, or ten classes 50:1; 4,000 to train, 3,000 and 6,000 to judge."""
    inputs, labels = fashion_pixels()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts = []
    for size in (4000, 3000, 6000):
        if family == "binary":
            shirts, others = order[labels[order] == 6][: size // 20], order[labels[order] != 6][: size - size // 20]
            kept = torch.cat([shirts, others])
        else:
            rate = 50.0 ** (-torch.arange(10) / 9)
            sizes = (size * rate / rate.sum()).round().long().tolist()
            kept = torch.cat([order[labels[order] == c][:k] for c, k in enumerate(sizes)])
        order = order[~torch.isin(order, kept)]
        parts.append((inputs[kept], (labels[kept] == 6).long() if family == "binary" else labels[kept]))
    return standardise(Splits(*parts), features=False)


def tampered(metric: str, interpolation: str, how: str, softness: float, seed: int) -> nn.Module:
    """UniLoss whose anchor values are shuffled among the anchors, or all the same."""
    loss = mg.UniLoss(metric, interpolation=interpolation, softness=softness, seed=seed)  # type: ignore[arg-type]
    honest = loss.form._values
    generator = torch.Generator().manual_seed(seed)

    def values(batch: Any, stack: Tensor) -> Tensor:
        true = honest(batch, stack)
        if how == "constant":
            same = torch.full_like(true, 0.5)
            if len(stack) == 2:  # the current and the ideal value
                same[1] = 1.0
            return torch.where(torch.isfinite(true), same, true)
        if len(stack) == 2:
            return true
        return true[torch.randperm(len(true), generator=generator)]

    loss.form._values = values  # type: ignore[method-assign]
    return loss


def losses(family: str) -> dict[str, Callable[[float, int], nn.Module]]:
    """Name to ``(softness, seed) -> loss``."""
    metrics, between = FAMILIES[family], "pairs" if family == "binary" else "items"
    out: dict[str, Callable[[float, int], nn.Module]] = {
        f"uniloss({m})": lambda soft, seed, m=m: mg.UniLoss(m, softness=soft, seed=seed) for m in metrics
    }
    out[f"uniloss({metrics[0]}), inverse distance"] = lambda soft, seed: mg.UniLoss(
        metrics[0], interpolation="inverse_distance", softness=soft, seed=seed
    )
    out["margin (no anchors)"] = lambda soft, seed: Margin(soft, between)
    out["cross-entropy"] = lambda soft, seed: BinaryCrossEntropy() if family == "binary" else nn.CrossEntropyLoss()
    for how in ("shuffled", "constant"):
        for name, kind in (("local", "local"), ("inverse distance", "inverse_distance")):
            if family == "multiclass" and (how, kind) != ("shuffled", "local"):
                continue  # the binary family has these; they are the slowest rows
            out[f"{how}, {name}"] = lambda soft, seed, how=how, kind=kind: tampered(metrics[0], kind, how, soft, seed)
    return out


def run(family: str, name: str, trial: Trial, seed: int) -> dict[str, list[float]]:
    """Validation and test of one training, by each metric at its own best epoch."""
    parts = load(family, seed)
    recipe = Recipe(
        model=lambda: mlp(784, None if family == "binary" else 10, (64,)),
        optimizer=lambda p: torch.optim.AdamW(p, lr=trial[0], weight_decay=1e-4),
        epochs=1 if name.startswith("constant") else 12, batch=128,
    )  # fmt: skip
    counts = interpolated.of_counts
    if name.startswith(("shuffled", "constant")):
        # all values then come from one place, where they are tampered with
        interpolated.of_counts = lambda metric: None
    try:
        epochs = train(recipe, losses(family)[name](trial[1], seed), parts, FAMILIES[family], seed)
    except mg.MetricgradError as error:  # a loss that gives up in words has failed to train
        return {"refused": [], "why": [str(error)]}  # type: ignore[list-item]
    finally:
        interpolated.of_counts = counts
    return {metric: list(selected(epochs, metric)) for metric in FAMILIES[family]}


def chance(family: str, metric: str, seed: int) -> float:
    """Test value of an untrained network."""
    torch.manual_seed(seed)
    part = load(family, seed).test
    model = mlp(784, None if family == "binary" else 10, (64,))
    with torch.no_grad():
        return float(mg.as_metric(metric)(model(part[0]), part[1]))


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("controls", SEEDS)
    results: dict[str, Any] = {}
    with Progress() as bar:
        total = sum(len(losses(family)) for family in FAMILIES) * (len(TRIALS) + SEEDS)
        shown = bar.add_task("controls", total=total)

        def get(family: str, name: str, trial: Trial, seed: int) -> dict[str, list[float]]:
            key = f"{family}/{name}/{trial}/{seed}"
            bar.advance(shown)
            return store.get(key) or store.add(key, run(family, name, trial, seed))

        for family, metrics in FAMILIES.items():
            found: dict[str, dict[str, Any]] = {}
            for name in losses(family):
                trials = TRIALS_CE if name == "cross-entropy" else TRIALS
                tuning = {trial: get(family, name, trial, TUNING_SEED) for trial in trials}
                if any("refused" in value for value in tuning.values()):
                    found[name] = {"refused": next(v["why"][0] for v in tuning.values() if "refused" in v)}
                    continue
                found[name] = {}
                for metric in metrics:
                    best = max(trials, key=lambda trial, m=metric: tuning[trial][m][0])  # type: ignore[index]
                    tests = [get(family, name, best, seed)[metric][1] for seed in range(SEEDS)]
                    found[name][metric] = {"trial": best, "tests": tests, **interval(tests)}
            table = {}
            for metric in metrics:
                right = found[f"uniloss({metric})"][metric]["tests"]
                table[metric] = {
                    name: paired(right, row[metric]["tests"])
                    for name, row in found.items()
                    if "refused" not in row and name != f"uniloss({metric})"
                }
            blank = {m: interval([chance(family, m, seed) for seed in range(SEEDS)]) for m in metrics}
            results[family] = {"metrics": metrics, "losses": found, "right_minus": table, "untrained": blank}
            store.finish(trials=TRIALS, families=results)


if __name__ == "__main__":
    main()
