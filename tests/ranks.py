"""Runs functions on several processes that talk over gloo, each of which returns what it found."""

from __future__ import annotations

import datetime
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(function: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``function(rank, world)`` returns on each of so many ranks; an error on one is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.set_forkserver_preload(["metricgrad", "pytest", "torch.distributed.fsdp"])
        mp.start_processes(_worker, args=(function, world, folder), nprocs=world, start_method="forkserver")
        return [pickle.loads((Path(folder) / f"{rank}").read_bytes()) for rank in range(world)]


def _worker(rank: int, function: Callable[[int, int], Any], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    (Path(folder) / f"{rank}").write_bytes(pickle.dumps(function(rank, world)))
    dist.destroy_process_group()
