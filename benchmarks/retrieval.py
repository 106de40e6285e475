"""Recall@1 of classes never seen in training: UniLoss on recall@1 and on MAP@R against triplet, margin and a mixture.

Every loss has the same trials over the same learning rates and weight decays, beside the one or two numbers of its own;
the trial best on validation is trained again on fresh draws; the test part is scored once a draw. All of it is
``metricgrad.compare`` on digits-retrieval. Five minutes on one core.
"""

from __future__ import annotations

from common import HERE, Store, arguments, interval, paired
from metricgrad import compare
from metricgrad.losses.catalogue import find
from metricgrad.metric import as_metric
from metricgrad.tasks.registry import get_task

METRIC = "retrieval_recall:k=1"
LOSSES = ["triplet", "distance_margin", "distance_mixture", "uniloss", "uniloss:metric=map_at_r"]
TRIALS, SEEDS = 3, 6


def untrained(seed: int) -> float:
    """Recall@1 of a fresh network on the test part."""
    import torch

    task = get_task("digits-retrieval")
    inputs, targets = task.load(seed)[2]
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(as_metric(METRIC)(task.model()(inputs), targets))


def main() -> None:
    """Run what is missing and write the JSON."""
    arguments(__doc__)
    store = Store("retrieval", SEEDS)
    table = compare(
        "digits-retrieval", metric=METRIC, losses=LOSSES, trials=TRIALS, seeds=SEEDS, out=HERE / "runs" / "retrieval"
    )
    tests = {
        name: [run["test"] for run in table.runs if run["loss"] == name] for name in {r["loss"] for r in table.runs}
    }
    before = [untrained(seed) for seed in range(SEEDS)]
    losses = {
        name: {
            "role": "control" if find(name)[0].role == "control" else "candidate",
            "test": interval(values),
            "over_untrained": paired(values, before),
            "over_triplet": None if name == "triplet" else paired(values, tests["triplet"]),
        }
        for name, values in sorted(tests.items())
    }
    store.finish(task="digits-retrieval", metric=METRIC, trials=TRIALS, untrained=interval(before), losses=losses)


if __name__ == "__main__":
    main()
