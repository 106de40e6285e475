"""How much memory ``metricgrad predict`` takes for tables of 10,000 to 1,000,000 rows, by a network and by trees.

Tables of eight numbers and two categories with missing values are written a part at a time; each is answered by a
process of its own, whose peak resident memory the kernel tells.

    python benchmarks/predict_memory.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import metricgrad as mg
from common import RESULTS, cpu

ROWS = (10_000, 100_000, 1_000_000)
LOSSES = {"network": "cross_entropy", "trees": "lightgbm"}
FILES = ("csv", "parquet")
TRAINED, PART, SEEDS = 2_000, 100_000, 1
COMMAND = """
import re
from metricgrad.cli.main import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def frame_of(rows: int, seed: int) -> pd.DataFrame:
    """Numbers, categories, and a target that depends on both."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 8))
    places, kinds = rng.integers(0, 30, rows), rng.integers(0, 4, rows)
    chance = 1 / (1 + np.exp(-(numbers[:, 0] + numbers[:, 1] * (kinds == 1) + 0.1 * (places % 7) - 1)))
    numbers[rng.random(numbers.shape) < 0.02] = np.nan
    columns = {f"number_{i}": numbers[:, i].round(4) for i in range(8)}
    texts = {"place": np.char.add("place ", places.astype(str)), "kind": np.array(list("abcd"))[kinds]}
    return pd.DataFrame({**columns, **texts, "left": np.where(rng.random(rows) < chance, "yes", "no")})


def write_table(path: Path, rows: int, seed: int) -> None:
    """A table of any length; a Parquet file of one row group a part."""
    parts = (frame_of(min(PART, rows - start), seed + start) for start in range(0, rows, PART))
    if path.suffix == ".csv":
        for number, part in enumerate(parts):
            part.to_csv(path, mode="a" if number else "w", header=not number, index=False)
        return
    with pq.ParquetWriter(path, pa.Schema.from_pandas(frame_of(1, seed), preserve_index=False)) as writer:
        for part in parts:
            writer.write_table(pa.Table.from_pandas(part, preserve_index=False))


def predicted(model: Path, table: Path, out: Path) -> tuple[float, float]:
    """Peak resident MiB and seconds of one command."""
    started = time.perf_counter()
    command = [sys.executable, "-c", COMMAND, "predict", str(model), str(table), "--out", str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(said) / 1024, time.perf_counter() - started


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS))
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    cells: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task = mg.task_of_table(frame_of(TRAINED, 0), target="left", metric="f1", positive="yes")
        for name, loss in LOSSES.items():
            mg.train_table(task, loss=loss, out=folder / name, progress=False)
        for ending in FILES:
            for count in rows:
                peaks: dict[str, list[float]] = {name: [] for name in LOSSES}
                seconds: dict[str, list[float]] = {name: [] for name in LOSSES}
                for seed in range(SEEDS):
                    write_table(table := folder / f"table.{ending}", count, 1 + seed * max(ROWS))
                    for name in LOSSES:
                        peak, took = predicted(folder / name, table, folder / f"answers.{ending}")
                        peaks[name].append(peak)
                        seconds[name].append(took)
                for name in LOSSES:
                    cells.append(
                        {"model": name, "file": ending, "rows": count, "MiB": peaks[name], "seconds": seconds[name]}
                    )
                    print(cells[-1], flush=True)
    found = {
        "command": "python benchmarks/predict_memory.py", "cpu": cpu(), "threads": 1, "seeds": SEEDS,
        "versions": {"metricgrad": mg.__version__, "torch": torch.__version__}, "cells": cells,
    }  # fmt: skip
    (RESULTS / "predict_memory.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
