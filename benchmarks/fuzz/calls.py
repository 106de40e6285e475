"""Calls by the thousand of every public entry point, with inputs sound and unsound; what came of them.

A call may end in a value, finite and right as far as something that must hold of it can tell (:mod:`fuzz.truths`), in
one that is documented as undefined, or in one MetricgradError that names an argument. Anything else is a fault: another
exception, a value or gradient that is not finite or not true, ten seconds, inputs or the global random state changed,
the same said over and over. Every call follows from its entry point and its number, so that one is made again by
``--only ENTRY --first NUMBER --calls 1``; what was done already is read from ``benchmarks/runs``.

    python benchmarks/fuzz/calls.py --calls 24000
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import metricgrad as mg  # noqa: E402
from common import RESULTS, Store, cpu  # noqa: E402
from fuzz import call_losses, call_metrics, call_training  # noqa: E402
from fuzz.inputs import Draws  # noqa: E402
from fuzz.watch import watched  # noqa: E402

#: Entry point -> what makes one call of it, and its share of all calls.
ENTRIES: dict[str, tuple[Callable[[Draws], str], float]] = {
    "UniLoss": (call_losses.uniloss, 5.0),
    "losses of the registry": (call_losses.of_registry, 3.0),
    "losses by name": (call_losses.of_catalogue, 3.0),
    "Loss(form, aligner)": (call_losses.of_grid, 3.0),
    "metric": (call_metrics.metric, 4.0),
    "metric.over": (call_metrics.over, 1.5),
    "as_metric": (call_metrics.as_metric, 1.0),
    "infer_refactoring": (call_metrics.refactoring, 1.5),
    "functional": (call_metrics.functions, 1.5),
    "AdaLFL, attached": (functools.partial(call_training.steps, looks=True), 0.5),
    "ALA, attached": (functools.partial(call_training.steps, looks=False), 0.5),
    "observe": (call_training.observe, 0.4),
    "prepare": (call_training.prepare, 0.3),
    "offline_start": (call_training.offline, 0.2),
    "ReLoss.fit": (call_training.reloss, 0.4),
    "save and load_loss": (call_training.round_trip, 0.5),
    "mismatch": (call_training.mismatch, 0.4),
    "diagnose": (call_training.diagnosis, 0.3),
    "record_scores": (call_training.recording, 0.2),
    "fit": (call_training.fit, 0.15),
    "fit_population": (call_training.population, 0.05),
    "compare": (call_training.compare, 0.03),
}
BLOCK = 100
"""Calls between two lines of the store."""


def attack(entry: str, first: int, calls: int) -> dict[str, Any]:
    """So many calls of an entry point from this number on; what came of them.

    Returns:
        ``calls``, how many had each outcome, and ``faults``: each with how many calls had it and the first of them.
    """
    call = ENTRIES[entry][0]
    count: collections.Counter[str] = collections.Counter()
    faults: dict[str, dict[str, Any]] = {}
    for number in range(first, first + calls):
        found = watched(entry, call, number)
        count[found.outcome] += 1
        if found.fault:
            one = faults.setdefault(found.fault, {"calls": 0, "first": number, "said": found.said})
            one["calls"] += 1
    return {"calls": calls, "outcomes": dict(count), "faults": faults}


def shares(calls: int, only: list[str]) -> dict[str, int]:
    """How many calls each entry point gets."""
    whole = sum(ENTRIES[entry][1] for entry in only)
    return {entry: max(1, round(calls * ENTRIES[entry][1] / whole)) for entry in only}


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several blocks of calls as one."""
    outcomes: collections.Counter[str] = collections.Counter()
    faults: dict[str, dict[str, Any]] = {}
    for part in parts:
        outcomes.update(part["outcomes"])
        for fault, one in part["faults"].items():
            kept = faults.setdefault(fault, {**one, "calls": 0})
            kept["calls"] += one["calls"]
    return {"calls": sum(part["calls"] for part in parts), "outcomes": dict(outcomes), "faults": faults}


def _tell(entry: str, found: dict[str, Any], *, said: bool) -> None:
    tqdm.write(f"{entry}: {found['calls']} calls, {found['outcomes']}")
    for fault, one in sorted(found["faults"].items(), key=lambda item: -item[1]["calls"]):
        tqdm.write(f"  {one['calls']} x {fault}; first {one['first']}" + (f": {one['said']}" if said else ""))


def main() -> None:
    """Attack every entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=24_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first call of each entry point")
    parser.add_argument("--only", nargs="*", choices=list(ENTRIES), default=list(ENTRIES))
    parser.add_argument("--show", action="store_true", help="print the faults, keep nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = shares(options.calls, options.only)
    store = None if options.show else Store("fuzz_calls", 1)
    entries: dict[str, dict[str, Any]] = {}
    bar = tqdm(total=sum(wanted.values()), unit="call")
    for entry, calls in wanted.items():
        bar.set_description(entry)
        parts = []
        for start in range(options.first, options.first + calls, BLOCK):
            size = min(BLOCK, options.first + calls - start)
            key = f"{entry} {start} {size}"
            found = store.get(key) if store else None
            if found is None:
                found = json.loads(json.dumps(attack(entry, start, size), default=str))
                if store:
                    store.add(key, found)
            parts.append(found)
            bar.update(size)
        entries[entry] = together(parts)
        _tell(entry, entries[entry], said=options.show)
    if store:
        record = {
            "command": "python benchmarks/fuzz/calls.py", "cpu": cpu(), "threads": 1, "seeds": 1,
            "versions": {"metricgrad": mg.__version__, "torch": torch.__version__}, "first": options.first,
            "entries": entries,
        }  # fmt: skip
        (RESULTS / "fuzz_calls.json").write_text(json.dumps(record, indent=1) + "\n")
    if any(found["faults"] for found in entries.values()):
        sys.exit("faults were found")


if __name__ == "__main__":
    main()
