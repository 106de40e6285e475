"""Recall@1 and @10 of classes never seen in training: losses people use, with and without ALA, and UniLoss.

Every loss has the same trials over the same learning rates and weight decays, beside the one or two numbers of its own;
the trial best on validation is trained again on fresh draws; the test part is scored once a draw. All of it is
``metricgrad.compare``. A policy or a random walk turns the five weights of the distance mixture, begun as the triplet
or the margin loss; ``distance_mixture`` has them tuned before training. Twenty minutes on one core;
``--only digits-retrieval`` does the half that needs no data.

The digits' embeddings of 4 numbers, their mirrored validation part, the default softness for cosines and the fonts'
first learning rate were chosen with test classes in view, on draws below 100. The draws here begin at 100, and so does
that of the trials (at 1,000,100).
"""

from __future__ import annotations

import json
import os

import torch

from common import HERE, RESULTS, Store, arguments, interval, paired
from metricgrad import Task, compare
from metricgrad.data.glyphs import VARIABLE
from metricgrad.metric import as_metric
from metricgrad.tasks.registry import get_task

AT_10 = "digits-retrieval, recall@10"
FIRST = 100
#: periods of four steps, since a training has 240 or 280 steps; on the fonts of seven, on 512 rows
EVERY = {"digits-retrieval": "every=4", "glyphs-fonts": "every=7,rows=512"}
#: task -> its losses beside those with ALA, trials and seeds
PARTS: dict[str, tuple[list[str], int, int]] = {
    "digits-retrieval": (
        ["triplet", "distance_margin", "distance_mixture", "uniloss", "uniloss:metric=map_at_r"], 3, 10,
    ),
    "glyphs-fonts": (["triplet", "distance_margin", "uniloss"], 2, 4),
    AT_10: (["triplet", "distance_margin", "uniloss"], 3, 10),
}  # fmt: skip


def metric_of(part: str) -> str:
    """What tunes and judges."""
    return "retrieval_recall:k=10" if part == AT_10 else "retrieval_recall:k=1"


def task_of(part: str) -> str:
    """The task's name."""
    return part.split(",")[0]


def with_ala(start: str, task: str, aligner: str) -> str:
    """The spec of the mixture begun as a loss."""
    return f"ala_{start}:aligner={aligner},{EVERY[task]}"


def untrained(name: str, seed: int) -> float:
    """The metric of a fresh network on the test part."""
    task = get_task(task_of(name))
    inputs, targets = task.load(FIRST + seed)[2]
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(as_metric(metric_of(name))(task.model()(inputs), targets))


def fresh(name: str) -> Task:
    """The task on draws that begin at 100."""
    task = get_task(task_of(name))
    return Task(
        task.name, model=task.model, load=lambda seed: task.load(FIRST + seed), metric=metric_of(name),
        kind="retrieval", device="cpu", epochs=task.epochs, batch_size=task.batch_size, per_class=task.per_class,
        lr=task.lr,
    )  # fmt: skip


def run(name: str) -> dict[str, object]:
    """One task: every loss over its seeds, over the untrained network, over the triplet loss, over its own control."""
    plain, trials, seeds = PARTS[name]
    starts = ("triplet", "distance_margin")
    aligned = [with_ala(start, task_of(name), kind) for start in starts for kind in ("policy", "random_walk")]
    table = compare(
        fresh(name), metric=metric_of(name), losses=[*plain, *aligned], trials=trials, seeds=seeds, controls=False,
        out=HERE / "runs" / f"{name.replace(', ', '-')}-fresh",
    )  # fmt: skip
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
    ala = {
        start: {
            "over it": paired(tests[with_ala(start, task_of(name), "policy")], tests[start]),
            "over the random walk": paired(
                tests[with_ala(start, task_of(name), "policy")], tests[with_ala(start, task_of(name), "random_walk")]
            ),
        }
        for start in starts
    }
    return {"trials": trials, "seeds": seeds, "untrained": interval(before), "losses": rows, "ala": ala}


def main() -> None:
    """Run what is missing and write the JSON; parts left out keep their last result."""
    options = arguments(__doc__, list(PARTS))
    if (options.data / "glyphs_aenigma.npz").exists():
        os.environ.setdefault(VARIABLE, str(options.data / "glyphs_aenigma.npz"))
    path = RESULTS / "retrieval.json"
    tasks = json.loads(path.read_text()).get("tasks", {}) if path.exists() else {}
    tasks.update({name: run(name) for name in options.only})
    Store("retrieval", max(seeds for _, _, seeds in PARTS.values())).finish(
        metrics={name: metric_of(name) for name in tasks}, tasks=tasks
    )


if __name__ == "__main__":
    main()
