"""Controls: shuffled or constant values, no anchors, and the wrong metric, each tuned by the same four trials.

The scorers are linear in a few principal components, so that no loss can fit everything and each has to choose what to
give up: a network that fits its training data is best by all metrics at once, and then shows nothing about the loss.
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
from linear import load, scorer
from metricgrad.losses.baselines.margin import Margin
from training import Recipe, selected, train

SEEDS, TUNING_SEED = 6, 1_000_000
Trial = tuple[float, float]
TRIALS: list[Trial] = [(3e-2, 0.3), (3e-2, 1.0), (1e-1, 0.3), (1e-1, 1.0)]
TRIALS_CE: list[Trial] = [(1e-2, 1.0), (3e-2, 1.0), (1e-1, 1.0), (3e-1, 1.0)]
FAMILIES: dict[str, list[str]] = {
    "binary": ["average_precision", "auroc", "recall_at_precision:precision=0.2"],
    "multiclass": ["accuracy", "macro_f1", "quadratic_kappa"],
}


EPOCHS, BATCH = 20, 512


class Tampered(mg.Metric):
    """A metric whose values are shuffled among score sets, or all the same."""

    how: str
    generator: torch.Generator

    def over(self, stack: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The true values, dealt out anew; the current, the ideal and the worst value stay what they are."""
        true = super().over(stack, targets, **context)
        if self.how == "constant":
            same = torch.full_like(true, 0.5)
            if len(stack) == 3:  # the current, the ideal and the worst value
                same[1:] = torch.tensor([1.0, 0.0])
            return torch.where(torch.isfinite(true), same, true)
        return true if len(stack) == 3 else true[torch.randperm(len(true), generator=self.generator)]


def tampered(metric: str, interpolation: str, how: str, softness: float, seed: int) -> nn.Module:
    """UniLoss whose anchor values are shuffled among the anchors, or all the same."""
    judged_by = mg.as_metric(metric)._copy(fast_path=None)  # all values then come from one place
    judged_by.__class__ = Tampered
    judged_by.how, judged_by.generator = how, torch.Generator().manual_seed(seed)
    return mg.UniLoss(judged_by, interpolation=interpolation, softness=softness, seed=seed)  # type: ignore[arg-type]


def losses(family: str) -> dict[str, Callable[[float, int], nn.Module]]:
    """Name to ``(softness, seed) -> loss``."""
    metrics, between = FAMILIES[family], "pairs" if family == "binary" else "items"
    out: dict[str, Callable[[float, int], nn.Module]] = {
        f"uniloss({m})": lambda soft, seed, m=m: mg.UniLoss(m, softness=soft, seed=seed) for m in metrics
    }
    out[f"uniloss({metrics[0]}), inverse distance"] = lambda soft, seed: mg.UniLoss(
        metrics[0], interpolation="inverse_distance", softness=soft, seed=seed
    )
    if family == "multiclass":
        out["uniloss(quadratic_kappa), warm-up"] = lambda soft, seed: mg.UniLoss(
            "quadratic_kappa", softness=soft, seed=seed, warm_up=100
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
        model=lambda: scorer(family), optimizer=lambda p: torch.optim.AdamW(p, lr=trial[0], weight_decay=1e-4),
        epochs=1 if name.startswith("constant") else EPOCHS, batch=BATCH,
    )  # fmt: skip
    try:
        epochs = train(recipe, losses(family)[name](trial[1], seed), parts, FAMILIES[family], seed)
    except mg.MetricgradError as error:  # a loss that gives up in words has failed to train
        return {"refused": [], "why": [str(error)]}  # type: ignore[list-item]
    return {metric: list(selected(epochs, metric)) for metric in FAMILIES[family]}


def chance(family: str, metric: str, seed: int) -> float:
    """Test value of an untrained scorer."""
    torch.manual_seed(seed)
    part = load(family, seed)[2]
    model = scorer(family)
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
