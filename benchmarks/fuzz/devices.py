"""Every cell of the fence on the pretend device, with the numbers of the CPU: ``python benchmarks/fuzz/devices.py``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.devices import every  # noqa: E402

if __name__ == "__main__":
    sys.exit(bool(every.main(*sys.argv[1:])))
