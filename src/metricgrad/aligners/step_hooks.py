"""The aligner's moments around each step of the user's own optimiser."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from metricgrad.aligners.base import Aligner, TrainingContext
from metricgrad.outside_graphs import outside_graphs


class StepHooks:
    """Hooks on the optimiser of one attached training, the first of all after its step and the last before it.

    Args:
        aligner: whose ``before_step`` and ``after_step`` are called.
        training: what it is attached to.
    """

    def __init__(self, aligner: Aligner, training: TrainingContext) -> None:
        self._aligner, self._training, self._optimizer = aligner, training, training.optimizer
        self._after = self._optimizer.register_step_post_hook(self._after_step)
        hooks: Any = self._optimizer._optimizer_step_post_hooks
        hooks.move_to_end(self._after.id, last=False)
        self._before = self._optimizer.register_step_pre_hook(self._before_step)

    def run_last_before_step(self) -> None:
        """Go behind hooks that were registered meanwhile, which may change gradients."""
        if next(reversed(self._optimizer._optimizer_step_pre_hooks)) != self._before.id:
            self._before.remove()
            self._before = self._optimizer.register_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Take them off."""
        self._after.remove()
        self._before.remove()

    @outside_graphs
    def _after_step(self, *_: Any) -> None:
        self._aligner.after_step(self._training)

    @outside_graphs
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        closure = _closure_of(args, kwargs)
        if closure is None:
            self._aligner.before_step(self._training)
            return None

        # the closure computes the gradients (Lightning's automatic optimisation steps this way)
        def then_before() -> Any:
            value = closure()
            self._aligner.before_step(self._training)
            return value

        return (*args[:1], then_before), {}


def _closure_of(args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """The closure of a call of ``optimizer.step``, whose first argument is the optimiser."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None)


def told_of_steps(method: Callable[[torch.optim.Optimizer], None]) -> RemovableHandle:
    """Call a method after the steps of all optimisers there are; its object is not kept alive by that.

    Args:
        method: of an object; gets the optimiser.

    Returns:
        The handle that ends it; it ends with the object too.
    """
    held = weakref.WeakMethod(method)

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if (told := held()) is not None:
            told(optimizer)

    handle = register_optimizer_step_post_hook(after)
    weakref.finalize(getattr(method, "__self__"), handle.remove)  # noqa: B009  (a method is typed as a callable)
    return handle
