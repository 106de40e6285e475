"""ALA beside cross-entropy, a tuned grid, a random walk and population-based training: ten models each, seed by seed.

Every row is a population of ten networks of 64 hidden units (or ten linear scorers), trained side by side. The metric
on a clean validation part chooses each child's epoch and the best child, which is scored once on the test part; the
mean over the children, each at its own best epoch, says what one training of that kind is worth. Seeds redraw the
data; intervals of differences carry Nadeau and Bengio's correction where draws share items. ``static`` is cross-entropy
up to rounding, which a test shows, so it has no row of its own. Settings (periods of 5 steps, moves of 0.3, the bandit,
ten children) were chosen on seeds 0 to 7 and on the first ten pieces of Fashion-MNIST, all below on others.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from ala_tasks import SEEDS, STUDIES, Study, few_classes
from common import RESULTS, Store, arguments, interval
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.comparison.statistics import corrected
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.training.population.fit_population import fit_population
from metricgrad.training.result import PopulationResult

CHILDREN, BATCH, DECAY, EVERY = 10, 64, 1e-4, 5
NEVER = 10**9
COPIES = APART = LITERAL = "pair flips, digits"
REWARDS = BROUGHT = "pair flips, Fashion"
MAIN = ("ala", "random_walk", "cross_entropy", "tuned grid")
PARTS = (*STUDIES, "copies", "reward", "apart", "transfer", "literal", "cost")
Values = dict[str, float]


def population(study: Study, loss: mg.Loss, seed: int, **options: Any) -> PopulationResult:
    """Ten children, unless told otherwise."""
    train, valid, _ = study.load(seed)
    settings = {"children": CHILDREN, "batch_size": BATCH, "weight_decay": DECAY, "seed": seed, **options}
    return fit_population(
        study.model, train, valid, metric=study.metric, loss=loss, epochs=study.epochs, lr=study.lr, **settings
    )


def measured(study: Study, seed: int, found: Sequence[PopulationResult]) -> Values:
    """Test values of the best child by validation, and of the mean child; the mean child's last epoch on validation."""
    test = study.load(seed).test
    results = sorted((r for one in found for r in one.results), key=lambda r: -r.valid)
    values = [result.evaluate(test) for result in results]
    best = results[0]
    at_zero = float(best.metric(best.model(test[0]).detach(), test[1]))
    return {
        "best": values[0], "mean": sum(values) / len(values), "valid": best.valid, "best at threshold 0": at_zero,
        "last on valid": sum(r.history[-1]["valid"] for r in results) / len(results),
        "seconds": sum(one.seconds for one in found),
    }  # fmt: skip


def ala(study: Study, seed: int, **options: Any) -> mg.Loss:
    """At the benchmark's settings."""
    return mg.ALA(study.metric, None, None, **{"every": EVERY, "seed": seed, **options})


def rows(study: Study) -> dict[str, Callable[[int], Values]]:
    """Every row of the main tables: a seed to its values."""

    def row(aligner: str, **options: Any) -> Callable[[int], Values]:
        still = {"warm_up": NEVER} if aligner == "static" else {}
        kind = "random_walk" if still else aligner

        def run(seed: int) -> Values:
            return measured(study, seed, [population(study, ala(study, seed, aligner=kind, **still), seed, **options)])

        return run

    return {
        "ala": row("policy"),
        "random_walk": row("random_walk"),
        "cross_entropy": row("static"),
        "tuned grid": row("static", starts=study.grid),
        "ala with copies": row("policy", copy_best=4),
        "population-based training": row("random_walk", copy_best=4),
    }


def table(store: Store, part: str, made: dict[str, Callable[[int], Values]], seeds: Sequence[int]) -> dict[str, Any]:
    """Every row on every seed, seed by seed, so that a run cut short is still paired."""
    found: dict[str, list[Values]] = {row: [] for row in made}
    for seed in seeds:
        for row, run in made.items():
            key = f"{part}/{row}/{seed}"
            found[row].append(store.get(key) or store.add(key, run(seed)))
    return found


def borrow(store: Store, part: str, table: str, *names: str) -> None:
    """Runs of a main table that a part needs too are not run again."""
    for name in names:
        for seed in SEEDS:
            if (done := store.get(f"{table}/{name}/{seed}")) and not store.get(f"{part}/{name}/{seed}"):
                store.add(f"{part}/{name}/{seed}", done)


def summary(found: dict[str, list[Values]], ours: Sequence[str], overlap: float) -> dict[str, Any]:
    """Intervals of each row, and of the differences of our rows to every other; both for best and for mean child."""
    kinds = list(next(iter(found.values()))[0])
    out: dict[str, Any] = {"rows": {row: {k: interval([v[k] for v in vs]) for k in kinds} for row, vs in found.items()}}
    for ala_row in ours:
        out[f"{ala_row} against"] = {
            row: {kind: _difference([v[kind] for v in found[ala_row]], [v[kind] for v in vs], overlap)
                  for kind in ("best", "mean")}
            for row, vs in found.items() if row != ala_row
        }  # fmt: skip
    return out


def _difference(ours: Sequence[float], theirs: Sequence[float], overlap: float) -> dict[str, Any]:
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    gap, plain = corrected(gaps, overlap), corrected(gaps)
    words = "better" if gap.low > 0 else "worse" if gap.high < 0 else "no difference shown"
    return {"mean": gap.mean, "low": gap.low, "high": gap.high, "p": gap.p, "verdict": words,
            "plain": [plain.low, plain.high]}  # fmt: skip


def copies(store: Store) -> dict[str, Any]:
    """Every four periods the best child replaces the worst, under the policy and in a random walk."""
    study, part = STUDIES[COPIES], "copies"
    names = ("ala with copies", "population-based training", "ala", "random_walk")
    borrow(store, part, COPIES, "ala", "random_walk")
    found = table(store, part, {name: rows(study)[name] for name in names}, SEEDS)
    return summary(found, ["ala with copies"], study.overlap)


def training_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, as a metric."""
    return nn.functional.cross_entropy(scores, targets)


def reward(store: Store) -> dict[str, Any]:
    """The same policy, rewarded by the metric on validation, by the metric on training data, by the training loss."""
    study = STUDIES[REWARDS]
    by_loss = mg.as_metric(training_loss, higher_is_better=False, reads="scores", name="training_loss")

    def rewarded_by(metric: Any) -> Callable[[int], Values]:
        def run(seed: int) -> Values:
            loss = mg.ALA(metric, None, None, every=EVERY, seed=seed)
            return measured(study, seed, [population(study, loss, seed, feedback=study.load(seed).train)])

        return run

    made = {
        "ala": rows(study)["ala"],
        "by accuracy on training data": rewarded_by(study.metric),
        "by the training loss": rewarded_by(by_loss),
    }
    borrow(store, "reward", REWARDS, "ala")
    return summary(table(store, "reward", made, SEEDS), ["ala"], study.overlap)


def apart(store: Store) -> dict[str, Any]:
    """Ten children under one policy against ten that each learn from themselves alone, and ten random walks."""
    study = STUDIES[APART]

    def run(seed: int) -> Values:
        found = []
        for child in range(CHILDREN):
            own = 1_000 * seed + child
            train, valid, _ = study.load(seed)
            found.append(fit_population(
                study.model, train, valid, metric=study.metric, loss=ala(study, own), epochs=study.epochs, lr=study.lr,
                batch_size=BATCH, weight_decay=DECAY, children=1, seed=own,
            ))  # fmt: skip
        return measured(study, seed, found)

    made = {"one policy each": run, **{row: rows(study)[row] for row in ("ala", "random_walk")}}
    borrow(store, "apart", APART, "ala", "random_walk")
    return summary(table(store, "apart", made, SEEDS), ["one policy each", "ala"], study.overlap)


def transfer(store: Store) -> dict[str, Any]:
    """A policy of two populations on six digits, frozen on Fashion-MNIST's ten classes, beside an untrained one."""
    study = STUDIES[BROUGHT]

    def learned(seed: int, path: Path) -> None:
        policy = Policy("accuracy", every=EVERY, step_size=0.3, learner="reinforce", updates=8, seed=seed)
        source = Study("", few_classes, "accuracy", 6, [])
        for again in range(2):
            population(source, mg.Loss(mg.ALA("accuracy", None, None).form, policy, seed=seed), 10 * seed + again)
        policy.save(path)

    def run(seed: int) -> Values:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy.safetensors"
            learned(seed, path)
            policy = Policy.load(path, every=EVERY, step_size=0.3, seed=seed)
        form = mg.ALA("accuracy", None, None).form
        return measured(study, seed, [population(study, mg.Loss(form, policy, seed=seed), seed)])

    def fresh(seed: int) -> Values:
        return measured(study, seed, [population(study, ala(study, seed, learner="reinforce", updates=8), seed)])

    made = {"brought, frozen": run, "learned on the spot": fresh, "random_walk": rows(study)["random_walk"]}
    borrow(store, "transfer", BROUGHT, "random_walk")
    return summary(table(store, "transfer", made, SEEDS), ["brought, frozen", "learned on the spot"], study.overlap)


def literal(store: Store) -> dict[str, Any]:
    """The paper's matrix and settings, but for periods of ten steps, against the bounded matrix with the cures."""
    study = STUDIES[LITERAL]

    def row(make: Callable[[int], mg.Loss]) -> Callable[[int], Values]:
        return lambda seed: measured(study, seed, [population(study, make(seed), seed, children=3)])

    def bounded(seed: int, **options: Any) -> mg.Loss:
        return mg.ALA(
            study.metric, CorrelationMatrix(10, warm_up=51), None, every=10, step_size=0.1, seed=seed, **options
        )

    def unbounded(seed: int, **options: Any) -> mg.Loss:
        return mg.ALA(study.metric, CorrelationMatrix(10, bounded=False), None, every=10, seed=seed, **options)

    made = {
        "bounded, with the cures": row(bounded),
        "bounded, random_walk": row(lambda seed: bounded(seed, aligner="random_walk")),
        "literal": row(lambda seed: unbounded(seed, paper=True)),
        "literal, nothing moved": row(lambda seed: unbounded(seed, aligner="random_walk", warm_up=NEVER)),
    }
    return summary(table(store, "literal", made, SEEDS), ["bounded, with the cures"], study.overlap)


def cost(store: Store) -> dict[str, float]:
    """Medians of ratios: looks and moves, the form's steps, and ten children, each beside what was timed next to it."""
    study = STUDIES["pair flips, digits"]
    (x, y), (vx, vy), _ = study.load(0)
    plain: nn.Module = nn.CrossEntropyLoss()
    shares: list[float] = []
    ratios: list[float] = []
    for seed in range(7):
        torch.manual_seed(seed)
        model, loss = study.model(), mg.ALA("accuracy", None, None)
        optimizer = torch.optim.AdamW(model.parameters(), lr=study.lr)
        handle = loss.attach(model, optimizer, valid=[(vx, vy)], total_steps=600)
        seconds = []
        for used in (loss, plain):
            begun = time.perf_counter()
            for _ in range(600):
                some = torch.randint(len(x), (BATCH,))
                optimizer.zero_grad()
                used(model(x[some]), y[some]).backward()
                optimizer.step()
            seconds.append(time.perf_counter() - begun)
            if used is loss:
                handle.detach()
        spent = loss.aligner.cost()["seconds"]
        shares.append(spent / (seconds[0] - spent))
        ratios.append(seconds[0] / seconds[1])
    times = []
    brief = replace(study, epochs=5)
    for seed in range(5):
        one, ten = (population(brief, ala(study, seed), seed, children=children).seconds for children in (1, CHILDREN))
        times.append(ten / one)
    return {
        "validation and moves over training": sorted(shares)[3],
        "training over cross_entropy's": sorted(ratios)[3],
        "ten children over one": sorted(times)[2],
    }


def main() -> None:
    """Run what is asked for."""
    warnings.filterwarnings("ignore", message="paper=True")
    args = arguments(__doc__, PARTS)
    store, kept = Store("ala", len(SEEDS)), RESULTS / "ala.json"
    results: dict[str, Any] = json.loads(kept.read_text())["parts"] if kept.exists() else {}
    others = {
        "copies": copies,
        "reward": reward,
        "apart": apart,
        "transfer": transfer,
        "literal": literal,
        "cost": cost,
    }
    for part in args.only:
        begun = time.perf_counter()
        if part in STUDIES:
            study = STUDIES[part]
            found = table(store, part, {name: rows(study)[name] for name in MAIN}, SEEDS)
            results[part] = {"about": study.about, **summary(found, ["ala"], study.overlap)}
        else:
            results[part] = others[part](store)
        store.finish(parts=results)
        print(f"{part}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
