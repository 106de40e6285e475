"""A file of somebody's own code as a module, run as Python runs a script: its folder is where its imports look."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_of_file(path: Path) -> ModuleType:
    """The module of a file, run once; a file in a package is imported as a part of it.

    Raises:
        FileNotFoundError: where there is none; and whatever running it raises.
    """
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    name = ".".join(path.relative_to(top).with_suffix("").parts)
    put_on_path(path.parent)
    put_on_path(top)
    if top != path.parent:
        importlib.import_module(name.rpartition(".")[0])
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(getattr(loaded, "__file__", None) or "") == path:
            return loaded
        name = str(path)  # a module of this name is another one, such as json for a file json.py
    described = importlib.util.spec_from_file_location(name, path)
    assert described is not None
    assert described.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(described)
    try:
        described.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def put_on_path(folder: Path) -> None:
    """Let imports look in a folder, as Python does in that of a script."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
