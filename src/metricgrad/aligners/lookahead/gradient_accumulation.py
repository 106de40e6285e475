"""What backward passes leave in the gradients of parameters, and whether it is still there at the step."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable

from metricgrad.aligners.isolation import copied
from metricgrad.aligners.lookahead.clipping import unchanged
from metricgrad.on_host import read
from metricgrad.outside_graphs import outside_graphs


@dataclass(frozen=True)
class GradientSnapshot:
    """A gradient as a backward pass left it.

    Attributes:
        gradient: the tensor, no copy of it.
        version: how often it had been written to.
        sums: 0-d each, its sum and its squared norm, which tell of writes through ``.data``; None where it is sparse.
    """

    gradient: Tensor
    version: int
    sums: tuple[Tensor, Tensor] | None

    @classmethod
    def now(cls, gradient: Tensor) -> GradientSnapshot:
        """As it is."""
        return cls(gradient, gradient._version, None if gradient.is_sparse else _sums(gradient))

    def is_kept(self, gradient: Tensor | None) -> bool:
        """Whether it is the same tensor, not written to since but through ``.data``; nobody waits for a device."""
        return gradient is not None and gradient is self.gradient and gradient._version == self.version


def are_unchanged(snapshots: Iterable[GradientSnapshot]) -> bool:
    """Whether none of the gradients was written to through ``.data``; the host waits once."""
    kept = [(one.sums, _sums(one.gradient)) for one in snapshots if one.sums is not None]
    numbers = read([number for pair in zip(*kept, strict=True) for sums in pair for number in sums])
    then, now = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    return all(a == b or (a != a and b != b) for a, b in zip(then, now, strict=True))


def _sums(gradient: Tensor) -> tuple[Tensor, Tensor]:
    flat = gradient.detach().reshape(-1)
    return flat.sum(), torch.dot(flat, flat)


class AccumulatedGradients:
    """Which backward passes through a loss ended in which gradients, and what the gradients were then.

    A pass of ``torch.autograd.grad`` ends in none. Within a pass, checkpoints may run further passes, which belong to
    it. Gradients are copied only where ``copies`` is set: a copy takes as much memory as the model. Where they are
    averaged over ranks, as DDP does at the end of a pass, what it left is what was averaged.

    Args:
        parameters: whose gradients are watched.
        beside: further ones, of which no more is noted than which passes reached them.
        copies: see above.
        averaged: likewise.

    Attributes:
        snapshots: for each parameter, its gradient after the last pass.
        reached: for each parameter, the numbers of the passes through the loss that are in its gradient.
        beside: for each of the further parameters, the numbers of the passes through the loss that reached it.
        raw: copies of gradients.
        touched: whether gradients were changed between two passes that both are in them.
    """

    def __init__(
        self, parameters: Iterable[Tensor], beside: Iterable[Tensor] = (), *, copies: bool, averaged: bool = False
    ) -> None:
        self.copies, self.averaged, self.paused = copies, averaged, False
        self._spare: dict[Tensor, Tensor] = {}
        self._count, self._open, self._task = 0, 0, -1
        self.clear()
        self.hooks: list[Any] = [p.register_post_accumulate_grad_hook(self._accumulated) for p in parameters]
        self.hooks += [p.register_post_accumulate_grad_hook(self._reached_beside) for p in beside]

    def clear(self) -> None:
        """Forget everything."""
        self.snapshots: dict[Tensor, GradientSnapshot] = {}
        self.reached: dict[Tensor, set[int]] = {}
        self.beside: dict[Tensor, set[int]] = {}
        self.raw: dict[Tensor, Tensor] = {}
        self.touched, self._open = False, 0

    def forget(self, parameter: Tensor) -> None:
        """Its gradient was thrown away."""
        for of in (self.snapshots, self.reached, self.raw):
            of.pop(parameter, None)

    def number(self) -> int:
        """Of the pass through the loss that is running; called from a hook inside it."""
        task = torch._C._current_graph_task_id()
        if not self._open or self._task != task:
            self._count, self._task = self._count + 1, task
            self._open = self._count
            self._look_back()
            Variable._execution_engine.queue_callback(functools.partial(self._end, self._open))
        return self._open

    @property
    def hooked(self) -> bool:
        """Whether a user's hooks may have changed gradients before they were seen here."""
        return any(p._backward_hooks or not _is_ours(p) for p in self.reached)

    @property
    def passes(self) -> set[int]:
        """Those that are in some gradient."""
        return set().union(*self.reached.values())

    def is_unchanged(self, parameter: Tensor) -> bool:
        """Whether the parameter's gradient is what the backward passes left."""
        if parameter in self.raw:
            return parameter.grad is not None and unchanged(self.raw[parameter], parameter.grad)
        kept = self.snapshots.get(parameter)
        return kept is not None and kept.is_kept(parameter.grad) and are_unchanged([kept])

    def all_unchanged(self) -> bool:
        """Whether the gradients of all parameters that were reached are."""
        if any(p in self.raw for p in self.reached):
            return all(map(self.is_unchanged, self.reached))
        kept = [(p, self.snapshots.get(p)) for p in self.reached]
        same = [one for p, one in kept if one is not None and one.is_kept(p.grad)]
        return len(same) == len(kept) and are_unchanged(same)

    def _end(self, number: int) -> None:
        if self._open == number:
            self._open = 0
        if self.averaged:  # behind the callback in which DDP averages, which was queued after this one
            Variable._execution_engine.queue_callback(self._look_at_averages)

    def _look_at_averages(self) -> None:
        for p in self.snapshots:
            if p.grad is not None:
                self._keep(p, p.grad)

    def _keep(self, parameter: Tensor, gradient: Tensor) -> None:
        self.snapshots[parameter] = GradientSnapshot.now(gradient)
        if self.copies:
            self.raw[parameter] = copied(self._spare, parameter, gradient)

    def _look_back(self) -> None:
        """What happened to the gradients since the last pass, before this one adds to them."""
        for p in list(self.snapshots):
            if not self.is_unchanged(p):
                if p.grad is None or not bool(p.grad.any()):
                    self.forget(p)
                else:
                    self.touched = True

    @outside_graphs
    def _accumulated(self, parameter: Tensor) -> None:
        if self.paused or parameter.grad is None:
            return
        before, gradient = self.snapshots.get(parameter), parameter.grad
        if before is not None and before.gradient is not gradient and not gradient._version:
            self.forget(parameter)
        elif before is not None and (before.gradient is not gradient or gradient._version != before.version + 1):
            self.touched = True
        self._keep(parameter, gradient)
        if self._open:
            self.reached.setdefault(parameter, set()).add(self._open)

    @outside_graphs
    def _reached_beside(self, parameter: Tensor) -> None:
        if self._open and not self.paused:
            self.beside.setdefault(parameter, set()).add(self._open)


def _is_ours(parameter: Any) -> bool:
    """Whether the first hook after accumulation is one of ours."""
    hook = next(iter((parameter._post_accumulate_grad_hooks or {}).values()), None)
    return isinstance(getattr(hook, "__self__", None), AccumulatedGradients)
