"""A record of all cells, how it is stored, and what differs between two."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.fence.cells import cells

#: shares of the largest entry within which sums in another order stay
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}


@dataclass
class Record:
    """Tensors by ``cell: what``, and of each cell that was refused the error."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class Report:
    """Names of the tensors and cells of two records, by what became of them."""

    equal: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    reworded: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not (self.different or self.gone)

    def __str__(self) -> str:
        shown = [
            ("different", self.different),
            ("no longer there", self.gone),
            ("refused in other words", self.reworded),
            ("new", self.new),
            ("equal up to rounding", self.rounded),
        ]
        lines = [f"{what}: {name}" for what, names in shown for name in sorted(names)]
        counts = ", ".join(f"{len(names)} {what}" for what, names in shown)
        return "\n".join([*lines, f"{len(self.equal)} equal to the bit, {counts}"])


def record(only: str = "") -> Record:
    """Run all cells whose name contains ``only``, on one thread."""
    found, threads = Record(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, cell in cells():
                if only not in name:
                    continue
                torch.manual_seed(0)
                try:
                    tensors = cell()
                except Exception as error:
                    found.refused[name] = f"{type(error).__name__}: {error}"
                    continue
                found.tensors.update({f"{name}: {what}": tensor.detach() for what, tensor in tensors.items()})
    finally:
        torch.set_num_threads(threads)
    return found


def write(path: Path, found: Record) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in found.tensors.items()}
    save_file(tensors, path, metadata={"refused": json.dumps(found.refused)})


def read(path: Path) -> Record:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Record(tensors, json.loads(file.metadata()["refused"]))


def compare(before: Record, after: Record) -> Report:
    report = Report()
    for name, old in before.tensors.items():
        new = after.tensors.get(name)
        if new is None:
            report.gone.append(name)
        elif old.dtype != new.dtype or old.shape != new.shape:
            report.different.append(f"{name} ({old.dtype} {tuple(old.shape)}, now {new.dtype} {tuple(new.shape)})")
        elif torch.equal(torch.nan_to_num(old), torch.nan_to_num(new)) and torch.equal(old.isnan(), new.isnan()):
            report.equal.append(name)
        else:
            apart = _apart(old, new)
            near = apart <= ROUNDING.get(old.dtype, 0.0)
            (report.rounded if near else report.different).append(f"{name} ({apart:.1e})")
    for name, error in before.refused.items():
        if name not in after.refused:
            report.different.append(f"{name} (was refused: {error})")
        elif error != after.refused[name]:
            report.reworded.append(f"{name} ({error!r}, now {after.refused[name]!r})")
    known = before.tensors.keys() | before.refused.keys()
    report.new += [name for name in (*after.tensors, *after.refused) if name not in known]
    return report


def _apart(old: Tensor, new: Tensor) -> float:
    """The largest difference as a share of the largest entry; infinite where NaN or inf stand elsewhere."""
    old, new = old.double(), new.double()
    finite = old.isfinite()
    if not torch.equal(finite, new.isfinite()):
        return float("inf")
    if not torch.equal(old[~finite].nan_to_num(), new[~finite].nan_to_num()):
        return float("inf")
    old, new = old[finite], new[finite]
    return float((old - new).abs().max() / old.abs().max().clamp(min=1e-300)) if old.numel() else 0.0
