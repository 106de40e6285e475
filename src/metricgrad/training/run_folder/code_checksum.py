"""What functions and classes of the user's compute, as a checksum: another body under the same name is another one."""

from __future__ import annotations

import dis
import enum
import functools
import sys
import sysconfig
import zlib
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from metricgrad.serialization import bytes_of

_LIBRARIES = {"metricgrad", "numpy", "scipy", "sklearn", "torch", "torchmetrics"}
_PYTHON = sysconfig.get_paths()["stdlib"]
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
_CALLED = ("__init__", "__call__")
_MADE_IN = ("__init__", "__post_init__", "__new__")
_STORES = ("STORE_DEREF", "STORE_GLOBAL")
_CHANGES = ("append", "extend", "add", "update", "insert", "setdefault", "pop", "clear", "copy_")
_SETS = ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR", "DELETE_ATTR")
_AROUND, _ATTRIBUTE = ("LOAD_GLOBAL", "LOAD_DEREF"), ("LOAD_ATTR",)
_HELD = (list, tuple, set, frozenset, Mapping, Tensor, np.ndarray)
_EMPTY = CellType()


def code_checksum(thing: Any) -> str:
    """A checksum of what a function, a class or an object does, the same in every process of one version of Python.

    It is that of the bytecode, of default arguments, and of what the code names: plain values, lists, dictionaries,
    tensors and arrays, and functions and classes of its own module, theirs likewise. Of an object its class and its
    public attributes count, of tensors and arrays their values. Lines, comments, docstrings and the code of libraries
    do not, nor what the code itself writes, such as a count of its calls or what it remembers.

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
        yield from sorted("".join(_parts(one, dict(seen))) for one in thing)
        return
    holds = isinstance(thing, (list, Mapping))
    if holds or hasattr(thing, "__dict__"):
        if id(thing) in seen:
            return
        seen[id(thing)] = thing
    if isinstance(thing, (FunctionType, type)) and _of_library(thing):
        yield f"{thing.__module__}.{thing.__qualname__}"
        return
    for inner in _inside(thing):
        yield from _parts(inner, seen)
    if holds:  # told again elsewhere, but not within itself
        del seen[id(thing)]


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
    if isinstance(thing, enum.Enum):
        return [type(thing), thing.name, thing.value]
    if isinstance(thing, Tensor):
        return [str(thing.dtype), tuple(thing.shape), zlib.crc32(bytes_of(thing.cpu()).numpy().tobytes())]
    if isinstance(thing, np.ndarray):
        return [str(thing.dtype), thing.shape, *(thing.tolist() if thing.dtype.hasobject else [thing.tobytes()])]
    if isinstance(thing, type):
        own = {name: part for name, part in vars(thing).items() if name[:2] != "__" or name in _CALLED}
        return [thing.__bases__, dict(sorted(own.items()))]
    if isinstance(thing, ModuleType):
        return [thing.__name__]
    if _of_library(type(thing)) and _top(type(thing)) not in _LIBRARIES:
        # what it holds is its own affair, and may be of the process
        return [type(thing), "" if " at 0x" in repr(thing) else repr(thing)]
    return [type(thing), dict(sorted(_shown(thing).items()))]


def _shown(thing: Any) -> dict[str, Any]:
    """What an object was made with: its public attributes but those that its own methods change."""
    written = set(_written_by(type(thing)))
    shown = {name: part for name, part in getattr(thing, "__dict__", {}).items() if name[0] != "_"}
    if isinstance(thing, nn.Module):
        own = thing._buffers if _top(type(thing)) == "torch" else {}
        shown.update({**thing._modules, **own})
        written.add("training")
    return {name: part for name, part in shown.items() if name not in written}


def _written_by(kind: type) -> Iterator[str]:
    """Names of attributes that the methods of a class of one's own change."""
    for cls in kind.__mro__:
        methods = () if _of_library(cls) else vars(cls).items()
        for name, method in methods:
            if isinstance(method, FunctionType) and name not in _MADE_IN:
                for code in _codes(method.__code__):
                    yield from (one.argval for one in dis.get_instructions(code) if one.opname in _SETS[2:])
                    yield from _changed_in(code, _ATTRIBUTE)


def _changed_in(code: CodeType, loads: tuple[str, ...]) -> Iterator[str]:
    """Names that are read by these instructions and changed in place, as ``seen`` in ``seen[key] = value``.

    The name is read where the text of what is set or called begins.
    """
    read: dict[Any, list[str]] = {}
    for one in dis.get_instructions(code):
        begins = one.positions and (one.positions.lineno, one.positions.col_offset)
        method = one.argval if one.opname in ("LOAD_METHOD", "LOAD_ATTR") else ""
        if one.opname in _SETS or method in _CHANGES or (method[-1:] == "_" and method[:2] != "__"):
            yield from read.get(begins, ())
        if one.opname in loads:
            read.setdefault(begins, []).append(one.argval)


def _named_in(function: FunctionType) -> dict[str, Any]:
    """What a function reads from around it by name: values, and what its own module defines."""
    codes = list(_codes(function.__code__))
    around = {name: function.__globals__.get(name) for code in codes for name in code.co_names}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        around[name] = cell.cell_contents if cell != _EMPTY else None
    written = {one.argval for code in codes for one in dis.get_instructions(code) if one.opname in _STORES}
    if any(isinstance(value, _HELD) for value in around.values()):
        beside = [*_functions_of(function.__globals__, function.__module__), *around.values(), function]
        others = [code for one in beside if isinstance(one, FunctionType) for code in _codes(one.__code__)]
        written.update(name for code in others for name in _changed_in(code, _AROUND))
    return {
        name: value
        for name, value in sorted(around.items())
        if name not in written and (isinstance(value, (*_PLAIN, *_HELD)) or _defined_in(value, function.__module__))
    }


def _functions_of(names: Mapping[str, Any], module: str) -> Iterator[FunctionType]:
    """Those that a module defines, in its classes too."""
    for value in [value for value in names.values() if _defined_in(value, module)]:
        yield from (value,) if isinstance(value, FunctionType) else _functions_of(vars(value), module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _defined_in(value: Any, module: str) -> bool:
    return isinstance(value, (FunctionType, type)) and value.__module__ == module


def _of_library(thing: FunctionType | type) -> bool:
    """Whether it is of Python or of a library that is installed, by where it lies: people's files have any name."""
    where = getattr(sys.modules.get(thing.__module__ or ""), "__file__", None)
    if _top(thing) in _LIBRARIES:
        return True
    if where is None:
        return _top(thing) in sys.stdlib_module_names
    return "site-packages" in where or where.startswith(_PYTHON)


def _top(thing: FunctionType | type) -> str:
    return (thing.__module__ or "").partition(".")[0]
