"""Tests on the pretend device run in a process of their own: the device changes torch for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_FLAG = "METRICGRAD_PRETEND_DEVICE"
ON_THE_DEVICE = bool(os.environ.get(_FLAG))
"""Whether this process is such a one."""


def passed_on_the_device(file: str) -> None:
    """Run the tests of a file there."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", file]
    done = subprocess.run(
        command, env={**os.environ, _FLAG: "1"}, cwd=Path(file).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]  # 5 where no test ran
