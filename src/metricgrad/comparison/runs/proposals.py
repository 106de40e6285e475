"""What trial n tries: a pure function of the seed, n, and the values recorded before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metricgrad.losses.registry import Range


def defaults(space: Mapping[str, Range]) -> dict[str, float]:
    """The values that are tried first."""
    return {name: bounds.default for name, bounds in space.items()}


def draw(space: Mapping[str, Range], number: int, *, seed: int) -> dict[str, float]:
    """Draw ``number`` at random: the same for every loss as far as their spaces begin alike.

    Args:
        space: the ranges, in a fixed order; log-uniform where they are logarithmic.
        number: of the draw.
        seed: the study's seed.
    """
    drawn = np.random.default_rng((seed, number)).random(len(space))
    return {
        name: b.low * (b.high / b.low) ** float(u) if b.log else b.low + (b.high - b.low) * float(u)
        for (name, b), u in zip(space.items(), drawn, strict=True)
    }


def propose(
    space: Mapping[str, Range], done: Sequence[Mapping[str, Any]], *, seed: int, maximise: bool
) -> dict[str, float]:
    """The parameters of the next trial.

    The first trial takes every default; the next ones are drawn at random, the same for every loss that shares a
    parameter's position in the space; from the eleventh on Optuna's TPE decides. The study is built anew from the
    recorded trials and its sampler is seeded for this trial alone, so a study that was killed and resumed proposes
    what an undisturbed one would have. (Optuna's own resumed sampler repeats its first trials.)

    Args:
        space: the ranges, in a fixed order.
        done: the records of the earlier trials, in order, each with ``params`` and ``valid`` (None for a failure).
        seed: the study's seed.
        maximise: whether higher values are better.
    """
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import TrialState, create_trial

    if not done:
        return defaults(space)
    number = len(done)
    distributions: dict[str, Any] = {n: FloatDistribution(b.low, b.high, log=b.log) for n, b in space.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + number) % 2**32)
        study = optuna.create_study(direction="maximize" if maximise else "minimize", sampler=sampler)
        for record in done:
            failed = record["valid"] is None
            study.add_trial(
                create_trial(
                    params=record["params"],
                    distributions=distributions,
                    value=None if failed else record["valid"],
                    state=TrialState.FAIL if failed else TrialState.COMPLETE,
                )
            )
        return dict(study.ask(distributions).params)
    finally:
        optuna.logging.set_verbosity(verbosity)
