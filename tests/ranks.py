"""Runs functions on several processes that talk over gloo: as ranks of a group, or as torchrun would."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import pickle
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def launched(function: Callable[..., Any], world: int, *arguments: Any) -> Iterator[None]:
    """Meanwhile ``function(*arguments)`` runs in forks of this process, each told what torchrun would tell it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given, end = (function, world, port, arguments), time.monotonic() + 240
    context = mp.start_processes(_launched, given, nprocs=world, join=False, start_method="fork")
    try:
        yield
        while not context.join(end - time.monotonic()):
            assert time.monotonic() < end, "a process hangs"
    finally:
        for process in context.processes:
            process.kill()


def _launched(rank: int, function: Callable[..., Any], world: int, port: int, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "GROUP_RANK": "0", "WORLD_SIZE": f"{world}",
        "LOCAL_WORLD_SIZE": f"{world}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
        "TORCHELASTIC_RUN_ID": "tests",
    }  # fmt: skip
    function(*arguments)
    dist.destroy_process_group()


def _worker(rank: int, function: Callable[[int, int], Any], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    (Path(folder) / f"{rank}").write_bytes(pickle.dumps(function(rank, world)))
    dist.destroy_process_group()
