"""Recall@1 and @10 of classes never seen in training: losses people use, with and without ALA, and UniLoss.

Every loss has the same trials over the same learning rates and weight decays, beside the one or two numbers of its own;
the trial best on validation is trained again on fresh draws; the test part is scored once a draw. All of it is
``metricgrad.compare``. A policy or a random walk turns the five weights of the distance mixture, begun as the triplet
or the margin loss; ``distance_mixture`` has them tuned before training. Seventy minutes on one core;
``--only digits-retrieval`` does the half that needs no data.

The digits' embeddings of 4 numbers, their mirrored validation part, the default softness for cosines and the fonts'
first learning rate were chosen with test classes in view, on draws below 100. The draws here begin at 100, and so does
that of the trials (at 1,000,100).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import torch

from common import HERE, RESULTS, Store, arguments, interval, paired
from metricgrad import Task, compare
from metricgrad.metrics.as_metric import as_metric
from metricgrad.tasks.registry import get_task
from tasks.glyph_fonts.data import VARIABLE
from tasks.glyph_fonts.task import glyphs_fonts

FIRST = 100
OVERLAP = 2 / 3  # draws share classes' items: of test items for each training item


@dataclass(frozen=True)
class Part:
    """One table: a task judged by recall at k, its losses beside those with ALA, trials and seeds.

    Attributes:
        ala: the policy's options: periods of four steps, since a training has 240 or 280; on the fonts of seven, on
            512 rows.
    """

    task: str
    k: int
    losses: list[str]
    trials: int
    seeds: int
    ala: str

    @property
    def metric(self) -> str:
        """What tunes and judges."""
        return f"retrieval_recall:k={self.k}"


FEW = ["triplet", "distance_margin", "uniloss"]
MORE = ["triplet", "distance_margin", "distance_mixture", "uniloss", "uniloss:metric=map_at_r"]
PARTS = {
    "digits-retrieval": Part("digits-retrieval", 1, MORE, 3, 10, "every=4"),
    "glyphs-fonts": Part("glyphs-fonts", 1, MORE, 3, 10, "every=7,rows=512"),
    "digits-retrieval, recall@10": Part("digits-retrieval", 10, FEW, 3, 10, "every=4"),
    "glyphs-fonts, recall@10": Part("glyphs-fonts", 10, FEW, 3, 10, "every=7,rows=512"),
}


TASKS = {task.name: task for task in (get_task("digits-retrieval"), glyphs_fonts)}


def with_ala(start: str, part: Part, aligner: str) -> str:
    """The spec of the mixture begun as a loss."""
    return f"ala_{start}:aligner={aligner},{part.ala}"


def untrained(part: Part, seed: int) -> float:
    """The metric of a fresh network on the test part."""
    task = TASKS[part.task]
    inputs, targets = task.load(FIRST + seed)[2]
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(as_metric(part.metric)(task.model()(inputs), targets))


def fresh(part: Part) -> Task:
    """The task on draws that begin at 100."""
    task = TASKS[part.task]
    return Task(
        task.name, model=task.model, load=lambda seed: task.load(FIRST + seed), metric=part.metric, kind="retrieval",
        device="cpu", epochs=task.epochs, batch_size=task.batch_size, per_class=task.per_class, lr=task.lr,
    )  # fmt: skip


def run(name: str) -> dict[str, object]:
    """One table: every loss over its seeds, over the untrained network, over the triplet loss, over its own control."""
    part = PARTS[name]
    starts = ("triplet", "distance_margin")
    aligned = [with_ala(start, part, kind) for start in starts for kind in ("policy", "random_walk")]
    table = compare(
        fresh(part), metric=part.metric, losses=[*part.losses, *aligned], trials=part.trials, seeds=part.seeds,
        controls=False, out=HERE / "runs" / f"{name.replace(', ', '-')}-fresh",
    )  # fmt: skip
    roles = {run["loss"]: run["role"] for run in table.runs}
    tests = {loss: [run["test"] for run in table.runs if run["loss"] == loss] for loss in roles}
    before = [untrained(part, seed) for seed in range(part.seeds)]
    rows = {
        loss: {
            "role": roles[loss],
            "test": interval(values),
            "over_untrained": paired(values, before, OVERLAP),
            "over_triplet": None if loss == "triplet" else paired(values, tests["triplet"], OVERLAP),
        }
        for loss, values in sorted(tests.items())
    }
    ala = {
        start: {
            "over it": paired(tests[with_ala(start, part, "policy")], tests[start], OVERLAP),
            "over the random walk": paired(
                tests[with_ala(start, part, "policy")], tests[with_ala(start, part, "random_walk")], OVERLAP
            ),
        }
        for start in starts
    }
    return {"trials": part.trials, "seeds": part.seeds, "untrained": interval(before), "losses": rows, "ala": ala}


def main() -> None:
    """Run what is missing and write the JSON; parts left out keep their last result."""
    options = arguments(__doc__, list(PARTS))
    if (options.data / "glyphs_aenigma.npz").exists():
        os.environ.setdefault(VARIABLE, str(options.data / "glyphs_aenigma.npz"))
    path = RESULTS / "retrieval.json"
    tasks = json.loads(path.read_text()).get("tasks", {}) if path.exists() else {}
    tasks.update({name: run(name) for name in options.only})
    Store("retrieval", max(part.seeds for part in PARTS.values())).finish(
        metrics={name: PARTS[name].metric for name in tasks}, tasks=tasks
    )


if __name__ == "__main__":
    main()
