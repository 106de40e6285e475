"""Questions about the parameters of scientific Python, answered by spans of its own documentation.

A real text that needs no download: the docstrings of scikit-learn, which is installed beside this package,
follow the numpydoc layout, and that layout says where a parameter's type, its default and its explanation stand. A
passage is a run of parameters of one docstring as running text; the questions ask for one of the three.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metricgrad.errors import MetricgradError

PACKAGES = ("sklearn",)
WORDS = 90
_SECTION = re.compile(r"^(?:Other )?Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}\s*$|\Z)", re.M | re.S)
_ENTRY = re.compile(r"^(\*{0,2}\w+) ?: ?(\S.*)$")
_DEFAULT = re.compile(r"default(?: is |: ?|=| )\s*(.+?)\s*$")
_OPTION = re.compile(r",?\s*\(?(?:optional|default)\b.*$")
_SENTENCE = re.compile(r".+?[.!?](?=\s+[A-Z]|$)|.+$")
_QUESTIONS = {"type": "What type is {}?", "default": "What is the default of {}?", "meaning": "What does {} say?"}


@dataclass(frozen=True)
class _Parameter:
    """One entry of a parameter section, as running text, and what may be asked of it: kind, offset and answer."""

    name: str
    text: str
    answers: tuple[tuple[str, int, str], ...]


def write_docstring_questions(path: str | Path, packages: Sequence[str] = PACKAGES) -> int:
    """Write the questions in the SQuAD layout, for :func:`tasks.docstring_answers.squad.read_squad`.

    Args:
        path: the JSON file.
        packages: installed packages with numpydoc docstrings.

    Returns:
        The number of questions.

    Raises:
        MetricgradError: where a package is not installed, or holds no parameter section.
    """
    content = docstring_questions(tuple(packages))
    Path(path).write_text(json.dumps(content, indent=1) + "\n")
    return sum(len(p["qas"]) for article in content["data"] for p in article["paragraphs"])


@functools.cache
def docstring_questions(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """The same as a dictionary; the title of an article is its module.

    The versions of the packages decide the text, so two machines agree where their versions do; ``version`` names
    them. A parameter that reads the same as an earlier one is left out, so no answer is to be had by heart.

    Cost: seconds; the sources are parsed, nothing is imported.
    """
    seen: set[str] = set()
    articles = []
    for package in packages:
        root, found = _root(package), 0
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root.parent)
            if {"tests", "externals", "_lib"} & set(inside.parts):
                continue
            paragraphs = [_paragraph(run) for doc in _docstrings(path) for run in _runs(doc, seen)]
            if paragraphs := [p for p in paragraphs if p["qas"]]:
                title = ".".join(inside.with_suffix("").parts)
                for number, qa in enumerate(qa for p in paragraphs for qa in p["qas"]):
                    qa["id"] = f"{title}-{number}"
                articles.append({"title": title, "paragraphs": paragraphs})
                found += 1
        if not found:
            raise MetricgradError(f"packages: {package!r} has no numpydoc parameter section; name another package")
    return {"version": ", ".join(f"{p} {_version(p)}" for p in packages), "data": articles}


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MetricgradError(
            f"packages: {package!r} is not installed; run `pip install 'metricgrad[compare]'`, or name another package"
        )
    return Path(spec.origin).parent


def _version(package: str) -> str:
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()[package][0])


def _docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a module's functions and classes, from the top."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (doc := ast.get_docstring(node, clean=False)):
            yield inspect.cleandoc(doc)


def _runs(doc: str, seen: set[str]) -> Iterator[list[_Parameter]]:
    """Parameters of one docstring that are new, as many in a run as a passage holds."""
    run: list[_Parameter] = []
    length = 0
    for section in _SECTION.findall(doc):
        for parameter in _parameters(section):
            size = len(re.findall(r"\w+|[^\w\s]", parameter.text))
            if parameter.text in seen or size > WORDS:
                continue
            seen.add(parameter.text)
            if length + size > WORDS:
                yield run
                run, length = [], 0
            run.append(parameter)
            length += size
    if run:
        yield run


def _parameters(section: str) -> Iterator[_Parameter]:
    lines = section.splitlines()
    heads = [i for i, line in enumerate(lines) if line and not line[0].isspace()]
    for head, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        if match := _ENTRY.match(lines[head]):
            name, kind = match[1].lstrip("*"), " ".join(match[2].split())
            paragraph = "\n".join(line.strip() for line in lines[head + 1 : end]).strip().partition("\n\n")[0]
            yield _parameter(name, kind.rstrip("."), " ".join(paragraph.split()))


def _parameter(name: str, kind: str, meaning: str) -> _Parameter:
    opening = f"{name} : "
    answers = []
    if asked := _OPTION.sub("", kind):
        answers.append(("type", len(opening), asked))
    if default := _DEFAULT.search(kind):
        value = default[1].rstrip(")") if default[1].count("(") < default[1].count(")") else default[1]
        answers.append(("default", len(opening) + default.start(1), value))
    text = f"{opening}{kind} {meaning}".rstrip()
    if meaning:
        sentence = _SENTENCE.match(meaning)
        assert sentence is not None
        answers.append(("meaning", len(opening) + len(kind) + 1, sentence[0]))
    return _Parameter(name, text, tuple(answers))


def _paragraph(run: Sequence[_Parameter]) -> dict[str, Any]:
    context, questions = "", []
    for parameter in run:
        context += " " if context else ""
        for kind, start, answer in parameter.answers:
            answers = [{"text": answer, "answer_start": len(context) + start}]
            questions.append({"question": _QUESTIONS[kind].format(parameter.name), "answers": answers})
        context += parameter.text
    return {"context": context, "qas": questions}
