"""Tensors of any shape, by name, that travel with a module's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Shelf(nn.Module):
    """Named tensors whose shapes are known only while training runs.

    A buffer must have its final shape when the module is built; what an aligner remembers depends on how many knobs
    and classes it meets. The tensors here are saved and loaded like buffers, whatever their shapes, and stay on the
    CPU in their dtype when the module is moved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.tensors[name] = value.detach().cpu()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def drop(self, *names: str) -> None:
        """Forget tensors, where they are there."""
        for name in names:
            self.tensors.pop(name, None)

    def push(self, name: str, rows: Tensor, most: int) -> None:
        """Append rows to a stack of at most so many; the oldest leave first."""
        rows = rows.detach().cpu()
        self.tensors[name] = (torch.cat([self[name], rows]) if name in self else rows)[-most:].clone()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.tensors.items():
            destination[prefix + name] = value.clone()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self.tensors = {k[len(prefix) :]: v.clone().cpu() for k, v in state_dict.items() if k.startswith(prefix)}
