"""The parts of RESULTS.md on calls, on malformed files, on kills and on disks that are full."""

from __future__ import annotations

from typing import Any

from report_text import table

OUTCOMES = {
    "value": "value", "undefined": "undefined", "overflow": "overflow", "refused": "refused",
    "own": "raised by the caller's own code", "fault": "faults",
}  # fmt: skip


def calls(result: dict[str, Any]) -> str:
    """What came of calls of every entry point."""
    rows = [
        [
            name, f"{one['calls']:,}",
            *(f"{one['outcomes'].get(what, 0):,}" for what in OUTCOMES),
        ]
        for name, one in result["entries"].items()
    ]  # fmt: skip
    whole = sum(one["calls"] for one in result["entries"].values())
    return (
        f"{whole:,} calls with inputs sound and unsound: every shape, dtype, container, size of scores, targets in and "
        "out of range, context of any content, options in and out of range. A call ends in a finite value with finite "
        "gradients that passes what can be told of it cheaply (rows in another order, masks against rows left out, "
        "weights against rows twice, float32 against float64, the metric's own ideal and range, scikit-learn's value), "
        "in one that is documented as undefined, in an overflow of float32 at scores from 1e20 up in a loss that is no "
        "interpolated metric (torch's own losses are inf there too), or in one `MetricgradError` that names "
        "an argument. Anything else is a fault.\n\n" + table(["entry point", "calls", *OUTCOMES.values()], rows)
    )


def files(result: dict[str, Any]) -> str:
    """What came of spoiled files, by kind."""
    rows = [
        [
            kind, f"{one['files']:,}", f"{one.get('refused', 0):,}", f"{one.get('refused in use', 0):,}",
            f"{one.get('taken', 0):,}", str(sum(one["faults"].values())), f"{one['slowest']:.1f}",
        ]
        for kind, one in result["kinds"].items()
    ]  # fmt: skip
    head = ["files", "spoiled", "refused in one sentence", "refused at the first use", "taken or mended", "faults",
            "slowest read, s"]  # fmt: skip
    return (
        "Each file is a sound one with one thing spoiled: bytes cut, flipped or inserted, a JSON value, a tensor, a "
        "line. A fault is an exception other than `MetricgradError`, a message that does not name the file, or a "
        "module imported because a file names it.\n\n" + table(head, rows)
    )


def kills(result: dict[str, Any]) -> str:
    """What came of jobs that were killed."""
    rows = [
        [name, str(one["kills"]), str(one["reruns"]), str(one.get("ended as undisturbed", 0)), str(len(one["faults"]))]
        for name, one in result["jobs"].items()
    ]
    return (
        "SIGKILL at random moments, now and then again while the rerun takes up. A rerun must give the table, or the "
        "weights, the history and the state of the loss, or the answers, of an undisturbed run bit for bit; a model or "
        "answers under their final name are whole after every kill. Of several workers on one folder one is killed and "
        "nobody calls again: all others must end with one worker's table, every run in it once.\n\n"
        + table(["job", "kills", "reruns", "ended as undisturbed", "faults"], rows)
    )


def faults(result: dict[str, Any]) -> str:
    """What came of commands that could not write."""
    rows = [
        [
            name, str(one["calls"]), str(one["kinds"]), str(one["attacked"]), str(one.get("one sentence", 0)),
            str(one.get("done without", 0)), str(len(one["faults"])),
        ]
        for name, one in result["jobs"].items()
    ]  # fmt: skip
    head = ["command", "calls that change a file", "kinds of them", "failures made", "ended in one sentence",
            "done without", "faults"]  # fmt: skip
    return (
        "Every call by which a command changes a file (open, write, rename, fsync, unlink, mkdir and the like) is made "
        "to fail in each way: a disk that is full from then on, a missing permission, or half of the bytes written and "
        "the disk full from then on. The command ends in one sentence, or as if undisturbed where it can do without; "
        "what was there before is whole; and the same command ends as an undisturbed one does when there is room "
        "again.\n\n" + table(head, rows)
    )
