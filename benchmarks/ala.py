"""ALA beside cross-entropy, its form tuned before training, and a random walk of the same steps, seed by seed.

Small digits, a 64-unit network, 30 epochs of AdamW at 5e-3. Every row keeps the epoch that is best by the metric on a
clean validation part (the same selection for all) and is scored once on the test part. Seeds redraw the split;
intervals of differences carry Nadeau and Bengio's correction. ``static`` is cross-entropy up to rounding, which a test
shows, so it has no row of its own.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from common import RESULTS, Store, arguments, interval
from metricgrad.comparison.statistics import corrected
from metricgrad.losses.classification_family import ClassificationFamily
from metricgrad.losses.correlation_matrix import CorrelationMatrix
from metricgrad.losses.ranking_family import RankingFamily
from metricgrad.metrics.threshold import at_threshold, choose_threshold, needs_threshold
from metricgrad.models.mlp import mlp
from metricgrad.tasks.digits import digits
from metricgrad.tasks.split import Splits, split, standardise, thin
from metricgrad.training.population import fit_population

SEEDS, EPOCHS, BATCH, LR = 10, 30, 64, 5e-3
LONG = 60
OVERLAP = 1 / 3
EXPONENTS = (0.3, 0.6, 0.9)
FIVE = ("balance", "exponent", "focus", "smoothing", "adjustment")
PARTS = ("pair_flip", "pair_flip_long", "symmetric", "rare", "settings", "population", "cost")
Make = Callable[[int], nn.Module]


def noisy(seed: int, rate: float, *, pairs: bool) -> Splits:
    """Digits with wrong training labels: c becomes c + 1, or any other class."""
    train, valid, test = digits.load(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    flipped = torch.rand(len(train[1]), generator=generator) < rate
    shift = torch.ones_like(train[1]) if pairs else torch.randint(1, 10, train[1].shape, generator=generator)
    return Splits((train[0], torch.where(flipped, (train[1] + shift) % 10, train[1])), valid, test)


def rare(seed: int) -> Splits:
    """The digit 8 against the rest, 5 % positives."""
    train, valid, test = digits.load(0)
    inputs, targets = (torch.cat([part[k] for part in (train, valid, test)]) for k in (0, 1))
    kept = thin(targets, targets == 8, 0.05, seed)
    return standardise(split(inputs[kept], (targets[kept] == 8).long(), seed, stratify=True), features=False)


def train(data: Splits, loss: nn.Module, metric: str, seed: int, *, epochs: int = EPOCHS) -> dict[str, float]:
    """A plain loop; the test value of the epoch that is best on validation, and of the last one."""
    judged_by = mg.as_metric(metric)
    (x, y), (vx, vy), (tx, ty) = data
    torch.manual_seed(seed)
    model = mlp(64, None if metric in ("f1", "average_precision") else 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4)
    handle = loss.attach(model, optimizer, valid=[(vx, vy)], total_steps=epochs * -(-len(x) // BATCH))
    best, last = (-1.0, 0.0), 0.0
    for _ in range(epochs):
        for some in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss(model(x[some]), y[some]).backward()
            optimizer.step()
        with torch.no_grad():
            scores, held_out = model(vx), model(tx)
        threshold = None
        if needs_threshold(judged_by, scores, vy):
            threshold, value = choose_threshold(judged_by, scores, vy)
        else:
            value = float(judged_by(scores, vy))
        last = at_threshold(judged_by, held_out, ty, threshold)
        best = max(best, (value, last), key=lambda pair: pair[0])
    handle.detach()
    share = loss.aligner.cost()["share"] if hasattr(loss.aligner, "cost") else 0.0
    return {"valid": best[0], "test": best[1], "last": last, "share": share}


def ala(metric: str, *, form: Callable[[], Any] | None = None, **options: Any) -> Make:
    """A seed to a fresh ALA."""
    return lambda seed: mg.ALA(metric, None if form is None else form(), None, seed=seed, **options)


def fixed(exponent: float) -> Make:
    """The form with one knob set before training, none moved."""

    def make(seed: int) -> nn.Module:
        form = ClassificationFamily(turns=("exponent",) if exponent else ())
        for knob in form.knobs().values():
            knob.parameter.fill_(exponent)
        return mg.Loss(form)

    return make


def rows_for(metric: str) -> dict[str, Make]:
    """Every row of the main tables."""
    return {
        "cross_entropy": fixed(0.0),
        **{f"fixed exponent {q}": fixed(q) for q in EXPONENTS},
        "ala": ala(metric),
        "random_walk": ala(metric, aligner="random_walk"),
        "random_walk of steps 0.5": ala(metric, aligner="random_walk", step_size=0.5),
    }


def settings() -> dict[str, Make]:
    """What was tried on pair flips."""

    def matrix() -> CorrelationMatrix:
        return CorrelationMatrix(10, warm_up=51)

    def literal() -> CorrelationMatrix:
        return CorrelationMatrix(10, bounded=False)

    return {
        "reinforce": ala("accuracy", learner="reinforce"),
        "steps of 0.1": ala("accuracy", step_size=0.1),
        "every 5 steps": ala("accuracy", every=5),
        "random_walk, every 5 steps": ala("accuracy", every=5, aligner="random_walk"),
        "bounded matrix": ala("accuracy", form=matrix, step_size=0.1),
        "random_walk, bounded matrix": ala("accuracy", form=matrix, step_size=0.1, aligner="random_walk"),
        "literal matrix": ala("accuracy", form=literal, paper=True, every=10),
    }


def table(
    store: Store,
    name: str,
    load: Callable[[int], Splits],
    metric: str,
    rows: dict[str, Make],
    *,
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
) -> dict[str, list[dict[str, float]]]:
    """Every row on every seed, seed by seed, so that a run cut short is still paired."""
    found: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    for seed in range(seeds):
        for row, make in rows.items():
            key = f"{name}/{metric}/{row}/{seed}"
            value = store.get(key) or store.add(key, train(load(seed), make(seed), metric, seed, epochs=epochs))
            found[row].append(value)
    return found


def chosen(found: dict[str, list[dict[str, float]]]) -> list[float]:
    """The tuned grid: of the fixed exponents and 0, the one that is best on each seed's validation part."""
    names = ["cross_entropy", *(f"fixed exponent {q}" for q in EXPONENTS)]
    best = [max((found[name][seed] for name in names), key=lambda run: run["valid"]) for seed in range(SEEDS)]
    return [run["test"] for run in best]


def differences(ours: Sequence[float], theirs: dict[str, Sequence[float]]) -> dict[str, Any]:
    """Of a row to each of its controls, in words too; ``plain`` takes the seeds for independent, which they are not."""
    out = {}
    for name, values in theirs.items():
        gaps = [a - b for a, b in zip(ours, values, strict=True)]
        gap, plain = corrected(gaps, OVERLAP), corrected(gaps)
        words = "better" if gap.low > 0 else "worse" if gap.high < 0 else "no difference shown"
        out[name] = {"mean": gap.mean, "low": gap.low, "high": gap.high, "p": gap.p, "verdict": words,
                     "plain": [plain.low, plain.high]}  # fmt: skip
    return out


def summary(found: dict[str, list[dict[str, float]]], *, grid: bool) -> dict[str, Any]:
    """Means, and ALA against each control."""
    tests: dict[str, Sequence[float]] = {row: [run["test"] for run in runs] for row, runs in found.items()}
    if grid:
        tests["tuned grid"] = chosen(found)
    against = {row: values for row, values in tests.items() if row != "ala"}
    means = {
        row: {"test": interval(list(values)), "last": interval([run["last"] for run in found.get(row, [])] or [0.0])}
        for row, values in tests.items()
    }
    lasts = {row: [run["last"] for run in runs] for row, runs in found.items()}
    others = {row: values for row, values in lasts.items() if row != "ala"}
    return {
        "rows": means,
        "ala against": differences(tests["ala"], against),
        "ala against, last epoch": differences(lasts["ala"], others),
    }


def population(store: Store) -> dict[str, Any]:
    """One child against ten, ten random walks, and population-based training; seconds beside one child's."""
    kinds: dict[str, dict[str, Any]] = {
        "one child": {"children": 1},
        "ten children": {"children": 10},
        "ten children, looped": {"children": 10, "stacked": False},
        "ten random walks": {"children": 10, "aligner": "random_walk"},
        "population-based training": {"children": 10, "aligner": "random_walk", "copy_best": 3},
        "ten children with copies": {"children": 10, "copy_best": 3},
    }
    out: dict[str, Any] = {}
    for name, options in kinds.items():
        runs = []
        for seed in range(3 if "looped" in name else 6):
            key = f"population/{name}/{seed}"
            runs.append(store.get(key) or store.add(key, _population(seed, dict(options))))
        out[name] = {k: interval([run[k] for run in runs]) for k in ("best", "mean", "seconds")}
    return out


def _population(seed: int, options: dict[str, Any]) -> dict[str, float]:
    data = noisy(seed, 0.4, pairs=True)
    loss = mg.ALA("accuracy", None, None, aligner=options.pop("aligner", "policy"), seed=seed)
    found = fit_population(
        lambda: mlp(64, 10), data.train, data.valid, metric="accuracy", loss=loss, epochs=20, lr=LR,
        batch_size=BATCH, seed=seed, **options,
    )  # fmt: skip
    tests = [result.evaluate(data.test) for result in found.results]
    return {"best": tests[0], "mean": sum(tests) / len(tests), "seconds": found.seconds}


def cost(store: Store) -> dict[str, float]:
    """Share of training spent on looks and moves, and a step of the family beside one of cross-entropy."""
    data = noisy(0, 0.4, pairs=True)
    shares = [train(data, mg.ALA("accuracy", None, None), "accuracy", seed)["share"] for seed in range(5)]
    scores, targets = torch.randn(BATCH, 10, requires_grad=True), torch.randint(10, (BATCH,))
    seconds = {}
    for name, loss in (("cross_entropy", nn.CrossEntropyLoss()), ("ala", mg.ALA("accuracy", None, None))):
        seconds[name] = min(_step(loss, scores, targets) for _ in range(200))
    return {
        "share": sorted(shares)[2],
        "microseconds over cross_entropy": 1e6 * (seconds["ala"] - seconds["cross_entropy"]),
    }


def _step(loss: nn.Module, scores: Tensor, targets: Tensor) -> float:
    begun = time.perf_counter()
    loss(scores, targets).backward()
    return time.perf_counter() - begun


def main() -> None:
    """Run what is asked for."""
    warnings.filterwarnings("ignore", message="paper=True")
    args = arguments(__doc__, PARTS)
    store, kept = Store("ala", SEEDS), RESULTS / "ala.json"
    results: dict[str, Any] = json.loads(kept.read_text())["parts"] if kept.exists() else {}
    for part in args.only:
        begun = time.perf_counter()
        if part in ("pair_flip", "symmetric"):
            rate, pairs = (0.4, True) if part == "pair_flip" else (0.5, False)
            found = table(
                store, part, lambda s, r=rate, p=pairs: noisy(s, r, pairs=p), "accuracy", rows_for("accuracy")
            )
            results[part] = summary(found, grid=True)
        elif part == "pair_flip_long":
            names = ("cross_entropy", "ala", "random_walk")
            rows = {name: rows_for("accuracy")[name] for name in names}
            found = table(store, part, lambda s: noisy(s, 0.4, pairs=True), "accuracy", rows, epochs=LONG)
            results[part] = summary(found, grid=False)
        elif part == "rare":
            for metric in ("f1", "average_precision"):
                rows = {row: make for row, make in rows_for(metric).items() if not row.startswith("fixed")}
                if metric == "average_precision":
                    rows["ala on RankingFamily"] = ala(metric, form=RankingFamily)
                    rows["random_walk on RankingFamily"] = ala(metric, form=RankingFamily, aligner="random_walk")
                results[f"rare {metric}"] = summary(table(store, part, rare, metric, rows), grid=False)
        elif part == "settings":
            found = table(store, part, lambda s: noisy(s, 0.4, pairs=True), "accuracy", settings(), seeds=3)
            results[part] = {
                row: {k: interval([run[k] for run in runs]) for k in ("test", "last")} for row, runs in found.items()
            }
        elif part == "population":
            results[part] = population(store)
        else:
            results[part] = cost(store)
        print(f"{part}: {time.perf_counter() - begun:.0f} s", flush=True)
    store.finish(parts=results)


if __name__ == "__main__":
    main()
