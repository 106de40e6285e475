"""What functions and classes of the user's compute, as a checksum: another body under the same name is another one."""

from __future__ import annotations

import dis
import functools
import zlib
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

_LIBRARIES = ("builtins", "abc", "metricgrad", "numpy", "scipy", "sklearn", "torch", "torchmetrics")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
_CALLED = ("__init__", "__call__")
_STORES = ("STORE_DEREF", "STORE_GLOBAL")
_EMPTY = CellType()


def code_checksum(thing: Any) -> str:
    """A checksum of what a function, a class or an object does, the same in every process of one version of Python.

    It is that of the bytecode, of default arguments, and of what the code names: plain values, and functions and
    classes of its own module, theirs likewise. Of an object its class and its public attributes count. Lines, comments,
    docstrings and the code of libraries do not, nor what the code itself writes, such as a count of its calls.

    Args:
        thing: a metric's function, a loss or a factory of losses, or several in a list.
    """
    found = 0
    for part in _parts(thing, {}):
        found = zlib.crc32(part.encode(errors="replace"), found)
    return f"{found:08x}"


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[str]:
    """Texts that say what it is; ``seen`` are functions, classes and objects that were told, and kept alive."""
    if isinstance(thing, _PLAIN):
        yield repr(thing)
        return
    yield type(thing).__name__
    if isinstance(thing, (set, frozenset)):
        yield from sorted(map(repr, thing))
        return
    if hasattr(thing, "__dict__"):
        if id(thing) in seen:
            return
        seen[id(thing)] = thing
    if isinstance(thing, (FunctionType, type)) and _of_library(thing):
        yield f"{thing.__module__}.{thing.__qualname__}"
        return
    for inner in _inside(thing):
        yield from _parts(inner, seen)


def _inside(thing: Any) -> list[Any]:
    """What a thing is made of."""
    if isinstance(thing, (list, tuple)):
        return list(thing)
    if isinstance(thing, Mapping):
        return [part for pair in thing.items() for part in pair]
    if isinstance(thing, CodeType):
        return [(one.opname, one.argval) for one in dis.get_instructions(thing)]
    if isinstance(thing, FunctionType):
        return [thing.__code__, thing.__defaults__, thing.__kwdefaults__, _named_in(thing)]
    if isinstance(thing, (MethodType, classmethod, staticmethod)):
        return [thing.__func__, getattr(thing, "__self__", None)]
    if isinstance(thing, property):
        return [thing.fget]
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, type):
        own = {name: part for name, part in vars(thing).items() if name[:2] != "__" or name in _CALLED}
        return [thing.__bases__, dict(sorted(own.items()))]
    shown = {name: part for name, part in getattr(thing, "__dict__", {}).items() if name[0] != "_"}
    return [type(thing), dict(sorted(shown.items()))]


def _named_in(function: FunctionType) -> dict[str, Any]:
    """What a function reads from around it by name: plain values, and what its own module defines."""
    codes = list(_codes(function.__code__))
    around = {name: function.__globals__.get(name) for code in codes for name in code.co_names}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        around[name] = cell.cell_contents if cell != _EMPTY else None
    written = {one.argval for code in codes for one in dis.get_instructions(code) if one.opname in _STORES}
    return {
        name: value for name, value in sorted(around.items())
        if name not in written and (isinstance(value, _PLAIN) or _defined_in(value, function.__module__))
    }  # fmt: skip


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _defined_in(value: Any, module: str) -> bool:
    return isinstance(value, (FunctionType, type)) and value.__module__ == module


def _of_library(thing: FunctionType | type) -> bool:
    return (thing.__module__ or "").partition(".")[0] in _LIBRARIES
