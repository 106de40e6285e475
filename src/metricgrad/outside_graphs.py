"""What runs outside graphs that are compiled, and what is inside a transform of ``torch.func``.

``torch.compiler.disable``, without the two seconds in which it imports the compiler where nobody compiles.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError

_FUNCTORCH: Any = getattr(torch._C, "_functorch")  # noqa: B009  (not in torch's stubs)
P = ParamSpec("P")
T = TypeVar("T")


def outside_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which runs outside the graph of whatever ``torch.compile`` compiles, and so does all it calls.

    ``torch.compiler.disable`` is applied at a call, once the compiler is loaded: before that nothing is compiled.

    Raises:
        MetricgradError: at a call inside a transform of ``torch.func`` that it does not go through.
    """
    function = _in_words(function)
    disabled: Any = None  # torch types what its decorator returns as taking no arguments

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal disabled
        # in a graph the first half is a constant, so that no graph is guarded by what is imported
        if not torch.compiler.is_compiling() and "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    own: Any = call  # torch counts how often the code of a function is compiled: each has its own
    own.__code__ = own.__code__.replace()
    return call


def _in_words(function: Callable[P, T]) -> Callable[P, T]:
    """The function, of which an error inside a transform says what to do."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if _FUNCTORCH.peek_interpreter_stack() is None:
                raise
            raise MetricgradError(
                "a loss of batches does not go through torch.func's vmap, grad and the like; call it outside of them, "
                "and take its gradient with torch.autograd.grad or backward()"
            ) from error

    return call


def transformed(values: Tensor) -> bool:
    """Whether they cannot be looked at: inside vmap and other transforms, or of many gradients asked for at once."""
    return _FUNCTORCH.is_functorch_wrapped_tensor(values) or _FUNCTORCH.is_legacy_batchedtensor(values)


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` was asked to compile it."""
    if module._compiled_call_impl is not None:
        return True
    return "_orig_mod" in module._modules or "_orig_mod" in module.__dict__  # hasattr goes through an error
