"""Studies of a loss against itself under other names: how often is it called better, and how often is it recommended?

Every seed redraws the split and trains cross-entropy several times, each with another start and another order of the
batches. A study draws ten of the seeds and gives the trainings other names: two of them for the verdict, five for a
ladder of five rungs. Whatever is then called better is no better.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats

from common import Store, arguments
from metricgrad import fit
from metricgrad.comparison.candidates import Candidate
from metricgrad.comparison.climb import Values, climb
from metricgrad.comparison.statistics import corrected
from metricgrad.comparison.summary import summarise
from tasks.tables.task import TASKS

SEEDS, NAMES, STUDIES = 48, 5, 200
STUDY_SEEDS = (6, 10, 20)
GAINS = (0.5, 1.0, 2.0)
"""Of a loss that is better, in deviations of a difference of two trainings."""
OVERLAP = 1 / 3
"""Three fifths are trained on, a fifth validates and a fifth tests."""
MARGIN = 0.005
TABLES = ("phoneme_f1", "contraceptive_macro_f1", "page_blocks0_average_precision")


def trained(store: Store, name: str, seed: int, again: int) -> tuple[float, float]:
    """Validation and test value of one training at the task's first guesses."""
    key = json.dumps([name, seed, again])
    if (done := store.get(key)) is not None:
        return done
    task = TASKS[name]
    train, valid, test = task.load(seed)
    torch.manual_seed(1000 * again + seed)
    result = fit(
        task.model(), train, valid, metric=task.judged_by(), loss="cross_entropy", lr=task.lr.default,
        weight_decay=task.weight_decay.default, epochs=task.epochs, batch_size=task.batch_size,
        seed=1000 * again + seed, progress=False, device="cpu",
    )  # fmt: skip
    return store.add(key, [result.valid, result.evaluate(test)])


def said_better(test: np.ndarray, valid: np.ndarray) -> bool:
    """Whether the second of two names is called better; ``(2, seeds)`` values."""
    rows = [
        Candidate("a", "candidate", True, {}, lambda params, seed: torch.nn.Identity()),
        Candidate("b", "candidate", False, {}, lambda params, seed: torch.nn.Identity(), controls=()),
    ]
    runs = [
        {"loss": row.name, "seed": seed, "valid": float(v), "test": float(t), "seconds": 0.0}
        for row, tests, valids in zip(rows, test, valid, strict=True)
        for seed, (t, v) in enumerate(zip(tests, valids, strict=True))
    ]
    summary, _ = summarise(rows, runs, higher_is_better=True, ratio=OVERLAP, margin=MARGIN)
    return summary[1]["verdict"] == "better"


def by_seed(valid: np.ndarray) -> list[Values]:
    """``(names, seeds)`` values as rungs."""
    return [dict(enumerate(map(float, row))) for row in valid]


def recommended(valid: np.ndarray) -> bool:
    """Whether the rule of :mod:`metricgrad.comparison.climb` leaves the first name; ``(names, seeds)`` values."""
    return any(step.taken for step in climb(by_seed(valid), higher_is_better=True, ratio=OVERLAP))


def by_error(count: Callable[[int], float]) -> Callable[[np.ndarray], bool]:
    """The same with so many corrected standard errors for so many seeds."""

    def chooses(valid: np.ndarray) -> bool:
        choice = 0
        for rung in range(1, len(valid)):
            added = corrected((valid[rung] - valid[choice]).tolist(), OVERLAP)
            choice = rung if added.mean > count(added.n) * added.error else choice
        return choice > 0

    return chooses


def best_mean(valid: np.ndarray) -> bool:
    """The same by the best mean."""
    return bool(valid.mean(1).argmax() > 0)


RULES: dict[str, Callable[[np.ndarray], bool]] = {
    "the rule: one-sided test at 5 %": recommended,
    "the 95 % interval is above 0": by_error(lambda n: float(stats.t.ppf(0.975, n - 1))),
    "one corrected standard error": by_error(lambda n: 1.0),
    "the best mean": best_mean,
}
"""Whether each climbs to any rung but the first; ``(names, seeds)`` validation values."""


def studies(values: np.ndarray, seeds: int, generator: np.random.Generator, gain: float = 0.0) -> dict[str, Any]:
    """The share of studies in which another name than the first is chosen or called better.

    Args:
        values: ``(seeds, names, 2)`` validation and test values.
        seeds: drawn for one study.
        generator: of the draws.
        gain: added to the last name of each study.
    """
    said = {"verdict": 0, "two": dict.fromkeys(RULES, 0), "five": dict.fromkeys(RULES, 0)}
    for _ in range(STUDIES):
        drawn = values[generator.permutation(len(values))[:seeds]]
        names = np.stack([one[generator.permutation(values.shape[1])] for one in drawn], axis=1)
        names[-1] += gain
        valid, test = names[..., 0], names[..., 1]
        said["verdict"] += said_better(test[[0, -1]], valid[[0, -1]])
        for rule, chooses in RULES.items():
            said["two"][rule] += chooses(valid[[0, -1]])
            said["five"][rule] += chooses(valid)
    return {
        name: {rule: times / STUDIES for rule, times in one.items()} if isinstance(one, dict) else one / STUDIES
        for name, one in said.items()
    }


def main() -> None:
    """Train what is missing, draw the studies, write the JSON."""
    arguments(__doc__)
    store = Store("aa_studies", SEEDS)
    found: dict[str, Any] = {}
    for name in TABLES:
        values = np.array([[trained(store, name, seed, again) for again in range(NAMES)] for seed in range(SEEDS)])
        deviation = _deviation(values)
        same = {n: studies(values, n, np.random.default_rng(n)) for n in STUDY_SEEDS}
        better = {
            n: {g: studies(values, n, np.random.default_rng(n), g * deviation)["two"] for g in GAINS}
            for n in STUDY_SEEDS
        }
        found[name] = {"deviation": deviation, "same": same, "better": better}
        store.finish(names=NAMES, count=STUDIES, tables=found)


def _deviation(values: np.ndarray) -> float:
    """Of the difference of two trainings on one split; ``(seeds, names, 2)`` values, validation and test."""
    pairs = [values[:, i] - values[:, j] for i in range(NAMES) for j in range(i)]
    return float(np.sqrt(np.mean(np.square(pairs))))


if __name__ == "__main__":
    main()
