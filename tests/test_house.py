"""The limits of the house: few files a folder, short files, short functions; what is beyond is named, and shrinks."""

import ast
from pathlib import Path

import pytest

from tests.import_graph import SOURCE

FILES, LINES, CODE = 25, 320, 60

#: folders, files and functions beyond their limit. Take out what you mend; nothing joins.
FOLDERS: set[str] = set()
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """From ``def`` to the end, without blank lines and the docstring."""
    first = function.body[0]
    text = set(range(first.lineno, first.end_lineno + 1)) if ast.get_docstring(function) is not None else set()
    numbers = range(function.lineno, function.end_lineno + 1)
    return sum(bool(lines[number - 1].strip()) for number in numbers if number not in text)


def long_functions(source: str, limit: int) -> list[str]:
    lines = source.splitlines()
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [function.name for function in found if code_lines(function, lines) > limit]


def test_no_folder_holds_more_files_than_one_reads_at_a_glance():
    folders = {SOURCE, *(path.parent for path in SOURCE.rglob("*.py"))}
    assert {name_of(folder) for folder in folders if len(list(folder.glob("*.py"))) > FILES} == FOLDERS


def test_no_file_is_too_long():
    assert {name_of(p) for p in SOURCE.rglob("*.py") if len(p.read_text("utf-8").splitlines()) > LINES} == LONG_FILES


def test_no_function_is_too_long():
    files = {name_of(path): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    found = {f"{name}:{function}" for name, source in files.items() for function in long_functions(source, CODE)}
    assert found == LONG_FUNCTIONS


@pytest.mark.parametrize(("limit", "found"), [(3, ["f"]), (4, [])])
def test_code_is_counted_without_docstrings_and_blank_lines(limit, found):
    source = 'def f(\n    a,\n):\n    """Two\n\n    lines."""\n\n    return a\n'
    assert long_functions(source, limit) == found
