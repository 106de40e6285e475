"""The parts of RESULTS.md on malformed files and on kills."""

from __future__ import annotations

from typing import Any

from report_text import table


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
        "weights, the history and the state of the loss, of an undisturbed run bit for bit.\n\n"
        + table(["job", "kills", "reruns", "ended as undisturbed", "faults"], rows)
    )
