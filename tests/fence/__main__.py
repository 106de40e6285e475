"""Record every value and gradient, and compare two records.

    python -m tests.fence record before.safetensors        # before a reorganisation: some two minutes on one core
    python -m tests.fence record after.safetensors         # after it
    python -m tests.fence compare before.safetensors after.safetensors

Records are of one machine and one version of torch, and are not kept. ``record`` takes ``--only WORD`` for the cells
whose name has the word in it. ``compare`` ends with status 1 where a number, or what is refused, is another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fence.records import compare, read, record, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("path", type=Path)
    recording.add_argument("--only", default="")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "record":
        found = record(arguments.only)
        write(arguments.path, found)
        print(f"{len(found.tensors)} tensors, {len(found.refused)} cells refused")
        return 0
    report = compare(read(arguments.before), read(arguments.after))
    print(report)
    return 0 if report.same else 1


if __name__ == "__main__":
    sys.exit(main())
