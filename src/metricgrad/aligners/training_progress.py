"""How far a training has come, for losses whose weights change on the way."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.handle import Handle
from metricgrad.on_host import OnHost
from metricgrad.outside_graphs import outside_graphs


class TrainingProgress(nn.Module):
    """Counts optimiser steps of the training that a loss is attached to.

    Attributes:
        steps: 0-d, taken so far; in the state, so that a resumed training goes on.
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_load_state_dict_pre_hook(_not_saved)
        self.register_load_state_dict_post_hook(_goes_on)
        self._total: int | None = None
        self._known = OnHost(int)
        self._last: weakref.ref[torch.optim.Optimizer] | None = None
        self._follows = False

    def follow(self, optimizer: torch.optim.Optimizer, total: int | None, anew: Callable[[], None]) -> Handle:
        """Count its steps until the handle is detached; begin anew where another training, or a whole one, was counted.

        Args:
            optimizer: of the training.
            total: steps in it, where known.
            anew: called where it followed another optimiser in this process before: that was another training.
        """
        if self._last is not None and self._last() is not optimizer:
            self.steps.zero_()
            anew()
        if total is not None and self._known.of(self.steps) >= total:
            self.steps.zero_()
        self._total, self._last, self._follows = total, weakref.ref(optimizer), True
        hook = optimizer.register_step_post_hook(self._count)

        def remove() -> None:
            hook.remove()
            self._total, self._follows = None, False

        return Handle(remove)

    @property
    def share(self) -> float | None:
        """0 to 1; None where the length of the training is not known."""
        return None if self._total is None else min(1.0, self._known.of(self.steps) / self._total)

    def __getstate__(self) -> dict[str, Any]:
        """A copy follows nothing."""
        return {**self.__dict__, "_total": None, "_last": None, "_follows": False}

    @outside_graphs
    def _count(self, *_: Any) -> None:
        taken = self._known.of(self.steps) + 1
        self._known.wrote(self.steps.add_(1), taken)


def _goes_on(progress: nn.Module, *_: Any) -> None:
    """What is loaded is of the training that is followed, or of the one to come, whatever was followed before."""
    assert isinstance(progress, TrainingProgress)
    if not progress._follows:
        progress._last = None


def _not_saved(progress: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Version 0.1 counted none."""
    state_dict.setdefault(prefix + "steps", torch.zeros((), dtype=torch.long))
