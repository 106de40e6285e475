"""Print how large the library is: ``make loc``."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """One line of totals, the largest file and the largest function, docstrings and blank lines included."""
    sources = {path.relative_to(ROOT): path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")}
    lines = {path: len(source.splitlines()) for path, source in sources.items()}
    functions = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    file, function = max(lines, key=lines.__getitem__), max(functions, key=functions.__getitem__)
    print(
        f"src: {len(lines)} files, {sum(lines.values())} lines, median {statistics.median(lines.values()):g}; "
        f"largest file {file} ({lines[file]}), largest function {function} ({functions[function]})"
    )


if __name__ == "__main__":
    main()
