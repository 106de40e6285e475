"""``torch.compiler.disable``, without the two seconds in which it imports the compiler where nobody compiles."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
T = TypeVar("T")


def outside_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which runs outside the graph of whatever ``torch.compile`` compiles, and so does all it calls.

    ``torch.compiler.disable`` is applied at a call, once the compiler is loaded: before that nothing is compiled.
    """
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

    return call


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` was asked to compile it."""
    if module._compiled_call_impl is not None:
        return True
    return "_orig_mod" in module._modules or "_orig_mod" in module.__dict__  # hasattr goes through an error
