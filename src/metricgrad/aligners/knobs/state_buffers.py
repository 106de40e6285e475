"""Tensors of any shape, by name, that travel with a module's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.serialization import rename_keys


@dataclass(frozen=True)
class Slot:
    """What a tensor among state buffers must be.

    Attributes:
        dtype: its dtype.
        sizes: of its axes: a number, or a name for a size that is the same wherever the name occurs.
        below: whole numbers are from 0 up to this one, which is not reached; None where there is no end.
        undefined: whether NaN says that there was nothing to measure.
        group: of tensors with the same word here, either all are there or none.
    """

    dtype: torch.dtype
    sizes: tuple[int | str, ...] = ()
    below: int | None = None
    undefined: bool = False
    group: str = ""

    def refusal(self, value: Tensor, known: dict[str, int]) -> str | None:
        """Why a tensor is none of this sort, or None; sizes that become known are noted."""
        if value.dtype != self.dtype or value.ndim != len(self.sizes):
            return f"is {value.dtype} with {value.ndim} axes; expected {self.dtype} with {len(self.sizes)}"
        for size, wanted in zip(value.shape, self.sizes, strict=True):
            if size != (known.setdefault(wanted, size) if isinstance(wanted, str) else wanted):
                return f"has the shape {tuple(value.shape)}; expected ({', '.join(map(str, self.sizes))})"
        if value.is_floating_point():
            fine = value.isfinite() | value.isnan() if self.undefined else value.isfinite()
            return None if bool(fine.all()) else "has NaN or infinite numbers"
        top = torch.iinfo(value.dtype).max if self.below is None else self.below - 1
        return None if bool(((value >= 0) & (value <= top)).all()) else f"has numbers that are not from 0 to {top}"


class Renamed(nn.Module):
    """Abstract: a module that loads states in which modules of it had other names.

    Attributes:
        renamed: those names, and today's.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        rename_keys(state_dict, prefix, self.renamed)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class StateBuffers(nn.Module):
    """Named tensors whose shapes are known only while training runs.

    A buffer must have its final shape when the module is built; what an aligner remembers depends on how many knobs
    and classes it meets. The tensors here are saved and loaded like buffers, whatever their shapes, and stay on the
    CPU in their dtype when the module is moved.

    Args:
        slots: what there may be, by name; a state with anything else is not loaded.
        renamed: names that files of an older version have, and today's.
    """

    def __init__(self, slots: Mapping[str, Slot], renamed: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.slots, self.renamed = slots, renamed or {}
        self.tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.tensors[name] = value.detach().cpu().to(self.slots[name].dtype)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def drop(self, *names: str) -> None:
        """Forget tensors, where they are there."""
        for name in names:
            self.tensors.pop(name, None)

    def push(self, name: str, rows: Tensor, most: int) -> None:
        """Append rows to a stack of at most so many; the oldest leave first."""
        rows = rows.detach().cpu().to(self.slots[name].dtype)
        self.tensors[name] = (torch.cat([self[name], rows]) if name in self else rows)[-most:].clone()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.tensors.items():
            destination[prefix + name] = value.clone()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        rename_keys(state_dict, prefix, self.renamed)
        found = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        unexpected_keys += [prefix + name for name in found if name not in self.slots]
        missing_keys += [prefix + name for name in self.tensors if name not in found and len(found) > 0]
        words = {slot.group for name, slot in self.slots.items() if name in found} - {""}
        missing_keys += [prefix + n for n, slot in self.slots.items() if slot.group in words and n not in found]
        known: dict[str, int] = {}
        for name, value in found.items():
            if name in self.slots and (reason := self.slots[name].refusal(value, known)):
                error_msgs.append(f"{prefix + name} {reason}.")
        if not error_msgs:
            self.tensors = {name: value.clone().cpu() for name, value in found.items()}
