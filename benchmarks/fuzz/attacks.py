"""The command line of a script that attacks one thing after the other, and writes down what it found."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch

import metricgrad as mg
from common import RESULTS, cpu


def import_all(names: Iterable[str]) -> None:
    """What one forked process had to import, the next ones have from the start."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def attack_all(
    doc: str | None, script: str, what: str, names: Iterable[str], attack: Callable[[str, int, int], dict[str, Any]],
    *, each: int, unit: str,
) -> None:  # fmt: skip
    """Attack what is asked for; the process fails where a fault was found.

    Args:
        doc: of the script.
        script: its name.
        what: the names are of, in the JSON.
        names: all there are.
        attack: with the name, how often and a seed; what it found, with its ``"faults"``.
        each: how often by default.
        unit: what is counted.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--each", type=int, default=each, help=unit)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(names), default=list(names))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"fuzz_{script}.json"
    done = json.loads(path.read_text())[what] if path.exists() else {}
    for name in options.only:
        done[name] = attack(name, options.each, options.seed)
        print(name, done[name], flush=True)
        found = {
            "command": f"python benchmarks/fuzz/{script}.py", "cpu": cpu(), "threads": 1, "seeds": 1,
            "versions": {"metricgrad": mg.__version__, "torch": torch.__version__}, what: done,
        }  # fmt: skip
        path.write_text(json.dumps(found, indent=1) + "\n")
    if any(result["faults"] for result in done.values()):
        sys.exit("faults were found")
