"""Trial n is a function of the seed, n, and what came before."""

import math

from metricgrad.comparison.runs.proposals import propose
from metricgrad.losses.registry import Range

SPACE = {"lr": Range(1e-4, 1e-1, default=1e-2), "softness": Range(0.1, 3.0, default=1.0)}


def study(trials, fail=()):
    done = []
    for number in range(trials):
        params = propose(SPACE, done, seed=0, maximise=True)
        value = -((math.log10(params["lr"]) + 2.5) ** 2) - (params["softness"] - 2) ** 2
        done.append({"params": params, "valid": None if number in fail else value})
    return done


def test_first_trial_takes_the_defaults():
    assert propose(SPACE, [], seed=0, maximise=True) == {"lr": 1e-2, "softness": 1.0}


def test_any_trial_follows_from_the_earlier_ones_also_after_failures():
    whole = study(16, fail=(1, 4))
    for number in (1, 5, 12, 15):
        assert propose(SPACE, whole[:number], seed=0, maximise=True) == whole[number]["params"]


def test_no_trial_repeats_another_and_later_ones_use_the_values():
    whole = study(30)
    assert len({tuple(r["params"].values()) for r in whole}) == 30
    early, late = ([r["valid"] for r in part] for part in (whole[1:10], whole[20:]))
    assert sum(late) / len(late) > sum(early) / len(early)
    assert all(1e-4 <= r["params"]["lr"] <= 1e-1 for r in whole)


def test_losses_share_their_random_learning_rates():
    shared = propose({"lr": SPACE["lr"]}, [{"params": {"lr": 0.01}, "valid": 0.1}], seed=0, maximise=True)
    done = [{"params": {"lr": 0.01, "softness": 1.0}, "valid": 0.9}]
    assert propose(SPACE, done, seed=0, maximise=True)["lr"] == shared["lr"]
