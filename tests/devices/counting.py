"""What a GPU would be asked for: kernels that are started, and moments at which the host waits for one.

with watch() as seen:
    loss(scores, targets).backward()
seen.kernels, seen.waits       # a number, and how often the host waited at each line of the library
"""

from __future__ import annotations

import collections
import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import metricgrad

ROOT = str(Path(metricgrad.__file__).parent)
_READERS = {str(Path(ROOT, "on_host.py"))}

#: Operations whose size depends on values, so that the host waits for them.
_OF_VALUES = {
    "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive",
    "equal", "bincount", "multinomial", "is_nonzero", "histc", "_local_scalar_dense", "_linalg_check_errors",
    "_linalg_eigh", "_linalg_svd", "linalg_lstsq",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_watching: list[Seen] = []


class Seen:
    """What happened inside a :func:`watch`."""

    def __init__(self) -> None:
        self.kernels = 0
        self.waits: collections.Counter[str] = collections.Counter()

    def __str__(self) -> str:
        return f"{self.waits.total()} synchronisations {dict(self.waits)}, {self.kernels} kernels"


@contextlib.contextmanager
def watch() -> Iterator[Seen]:
    """Count what happens inside."""
    seen = Seen()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def count(func: Any, name: str, args: Any, kwargs: Any, on_device: Any) -> None:
    """One operation; ``on_device`` says of a tensor whether it is there."""
    if not _watching:
        return
    target = kwargs.get("device")
    to_host = name == "_to_copy" and target is not None and torch.device(target).type == "cpu"
    if _starts_a_kernel(func, name) and not to_host:  # which is a transfer
        for seen in _watching:
            seen.kernels += 1
    if name in _OF_VALUES or to_host or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        wait()
    elif name in ("copy_", "_copy_from"):
        if on_device(args[0]) != on_device(args[1]):
            wait()
    elif name in _INDEXING:
        masks = [i for i in args[1] or () if isinstance(i, torch.Tensor) and i.dtype == torch.bool]
        filled = "put" in name and len(args[1]) == 1 and args[2].numel() == 1  # as masked_fill, for which nobody waits
        if masks and not filled:
            wait()


def wait() -> None:
    """The host waits, once."""
    for seen in _watching:
        seen.waits[_line()] += 1


def _line() -> str:
    """The innermost line of the library that is running, but for those by which all read a number."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(ROOT) and name not in _READERS:
            return f"{name[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


@functools.cache
def _starts_a_kernel(func: Any, name: str) -> bool:
    """Whether it is neither a view nor an allocation nor a read."""
    view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
    return not (
        view
        or name.startswith(("empty", "new_empty", "detach", "alias", "lift", "_unsafe_view"))
        or name == "_local_scalar_dense"
    )
