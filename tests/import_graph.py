"""The import graph of ``src/metricgrad``, drawn from its source: nothing is imported to draw it.

An arrow is an import statement anywhere in a file (in a function and under ``TYPE_CHECKING`` too), or a string that
names a module: ``"metricgrad.x.y"``, ``"metricgrad.x.y:Name"``, put together of constants, or an f-string that begins
with a package, whose modules are then those the file names in other strings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "metricgrad"
ROOT = SOURCE.name
_NAME = re.compile(rf"({ROOT}(?:\.\w+)*)(?::\w+)?")

Graph = dict[str, dict[str, int]]
"""Module -> the modules it points at -> the first line that does."""


def draw(source: Path = SOURCE) -> Graph:
    """All arrows between modules; a package stands for its ``__init__``.

    Importing a module also runs the ``__init__`` of the packages it is in: an arrow from every module outside them.
    """
    files = {_module(path, source): path for path in sorted(source.rglob("*.py"))}
    graph: Graph = {module: {} for module in files}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        dynamic = ((name, line) for name, line in _in_f_strings(tree) if name in files)
        for target, line in (*_named(tree, module, path.name == "__init__.py"), *dynamic):
            found = _existing(target, files)
            if found is None:
                continue
            for each in (found, *_packages(found)):
                if each != module and not (each != found and f"{module}.".startswith(f"{each}.")):
                    graph[module].setdefault(each, line)
    return graph


def _module(path: Path, source: Path) -> str:
    return ".".join((ROOT, *path.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")


def _existing(name: str, files: dict[str, Path]) -> str | None:
    """The module that a dotted name is, or is in."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def _packages(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _named(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports or writes down, each with its line."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, is_package)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.BinOp) and (text := _text(node, constants)) is not None:
            yield from _in_string(text, node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _in_string(node.value, node.lineno)


def _in_f_strings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What an f-string that begins with a package can become, with the words of the file's other strings."""
    begun = [
        (str(node.values[0].value), node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant)
    ]
    begun = [(text, line) for text, line in begun if text.startswith(f"{ROOT}.") and text.endswith(".")]
    strings = [str(node.value) for node in ast.walk(tree) if begun and isinstance(node, ast.Constant)]
    words = sorted({word for string in strings for word in re.findall(r"\w+", string)})
    yield from ((prefix + word, line) for prefix, line in begun for word in words)


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _text(node: ast.expr, constants: dict[str, str]) -> str | None:
    """The text of constants put together, or None."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left, constants), _text(node.right, constants)
        return None if left is None or right is None else left + right
    return None


def _in_string(text: str, line: int) -> Iterator[tuple[str, int]]:
    found = _NAME.fullmatch(text)
    if found is not None and found[1] != ROOT:
        yield found[1], line


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one module (Tarjan), the largest first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found, key=lambda component: -len(component))
