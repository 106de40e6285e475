"""A finished study that nobody ran, whose names are what users may write."""

from pathlib import Path

from metricgrad.comparison.report import evidence_file
from metricgrad.comparison.report.study_file import About, write_study
from metricgrad.comparison.table import Table

NASTY = "<script>alert('x')</script> & \"y\" | *z*"


def run(loss, seed, test):
    plain = {"valid": test + 0.01, "valid_undecided": test, "test": test, "test_undecided": test - 0.02}
    rest = {"decision": "threshold", "seconds": 1.5, "params": {"lr": 0.01}}
    return {"loss": loss, "role": "candidate", "seed": seed, **plain, **rest}


def row(loss, mean, verdict, **more):
    told = {
        "loss": loss, "role": "candidate", "mean": mean, "mean_undecided": mean - 0.02, "low": mean - 0.03,
        "high": mean + 0.03, "low_undecided": mean - 0.05, "high_undecided": mean + 0.01,
        "decisions": {"threshold": 5, "identity": 1}, "difference": mean - 0.8, "difference_low": mean - 0.81,
        "difference_high": mean - 0.79, "p": 0.01, "verdict": verdict, "more_seeds": None, "valid": mean,
        "seconds": 1.5,
    }  # fmt: skip
    return {**told, **more}


def rung(name, loss, taken, added=0.02):
    return {
        "rung": name, "loss": loss, "decision": "threshold", "over": None, "added": added, "low": 0.01, "high": 0.03,
        "taken": taken, "seconds": 12.0, "runs": 8, "why": "",
    }  # fmt: skip


def table(folder: Path, best="uniloss", **more) -> Table:
    losses = {"cross_entropy": 0.8, best: 0.9, "ala_static": 0.79}
    told = {
        "task": "churn", "metric": "f1", "higher_is_better": True, "margin": 0.005,
        "runs": [run(loss, seed, mean + 0.001 * seed) for loss, mean in losses.items() for seed in range(6)],
        "summary": [
            row("cross_entropy", 0.8, "baseline"),
            row(best, 0.9, "better"),
            row("ala_static", 0.79, "undecided", role="control", more_seeds=120, p=None),
        ],
        "ladder": [rung("cross_entropy", "cross_entropy", True, None), rung("+ the metric", best, True)],
        "recommendation": {"loss": best, "decision": "threshold", "why": "+ the metric gains +0.0200"},
        "notes": ["focal failed in 1 of 6 seeds; in seed 3: diverged"],
    }  # fmt: skip
    return Table(**{**told, **more}, path=folder)


def about(classes=("no", "yes"), options=None, columns=None) -> About:
    return About(
        command="metricgrad compare churn.csv --target left --metric f1", versions={"metricgrad": "0.1.0"},
        kind="binary", trials=2, halving=False, seeds=6, epochs=20, decision="auto",
        understood=["60 rows; target 'left'"], options=options or {}, columns=columns or {}, classes=list(classes),
        data={"train": "(36, 4):00c0ffee"},
        not_tried={"focal": "easy items weigh less"},
    )  # fmt: skip


def evidence():
    epochs = [{"epoch": i, "train_loss": 1.0 / (i + 1), "valid": 0.5 + 0.05 * i, "seconds": 0.1} for i in range(5)]
    counts = {"decided": [[40, 10], [3, 17]], "undecided": [[45, 5], [10, 10]]}
    return {
        "history": epochs,
        "decision": {"kind": "threshold", "config": {}, "words": "of 70 rows", "decided": 0.9, "undecided": 0.8},
        "predictions": {
            "of": "classes", "confusion": counts,
            "calibration": {"said": [0.1, 0.6], "seen": [0.05, 0.7], "items": [50, 20]},
            "curve": {"recall": [0.1, 0.5, 1.0], "precision": [1.0, 0.8, 0.3]},
        },
        "mismatch": {"value": 0.7, "low": 0.6, "high": 0.8, "rows": 64, "points": [[0.1, 0.9], [0.3, 0.7]]},
        "learned": True,
        "push": {"score": [-1.0, 0.0, 1.0], "push": [1.0, 0.6, 0.2]},
        "curriculum": {"step": [10, 20], "knobs": {"focus": [0.0, 0.5], "balance": [0.1, 0.1]}, "of": 2},
    }  # fmt: skip


def write(folder: Path, best="uniloss", classes=("no", "yes"), options=None, columns=None, **more) -> Path:
    """The study as its folder."""
    found = table(folder, best, **more)
    write_study(found, about(classes, options, columns))
    for one in found.summary:
        evidence_file.keep(folder, one["loss"], {"lr": 0.01}, evidence())
    return folder
