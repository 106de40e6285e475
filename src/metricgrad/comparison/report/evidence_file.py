"""The file of what was kept of one training of a loss, see :mod:`metricgrad.comparison.report.evidence`."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

from metricgrad.errors import MetricgradError
from metricgrad.json_types import parse
from metricgrad.writing import write_text

FOLDER = "evidence"
SEED = 0
"""The run that is kept of each loss."""


def keep(study: Path, loss: str, params: dict[str, float], found: dict[str, Any]) -> None:
    """Write what was gathered of a loss at these parameters."""
    path = _path(study, loss)
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps({"loss": loss, "seed": SEED, "params": params, **found}, allow_nan=False))


def kept(study: Path, loss: str, params: dict[str, float]) -> dict[str, Any] | None:
    """What was kept of a loss; None where nothing was, or of a run at other parameters.

    Raises:
        MetricgradError: for a file that is something else.
    """
    path = _path(study, loss)
    try:
        found = parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, MetricgradError) as error:
        raise MetricgradError(f"{str(path)!r} is no evidence of a run ({error}); delete it") from error
    if not isinstance(found, dict):
        raise MetricgradError(f"{str(path)!r} is no evidence of a run; delete it")
    return found if found.get("params") == params else None


def _path(study: Path, loss: str) -> Path:
    """A name that every file system takes, another one for every loss."""
    return study / FOLDER / f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', loss)[:60]}-{zlib.crc32(loss.encode()):08x}.json"
