"""Tasks of the user's own, by the path of their file or by module."""

import sys

import pytest

import metricgrad as mg
from metricgrad.tasks.registry import get_task

FILE = """
import torch
import metricgrad as mg
{imports}

x, y = torch.randn(60, 4), torch.arange(60) % 2

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0))

mine = mg.Task("mine", model=model, train=(x, y), valid=(x, y), test=(x, y), metric="f1", epochs=1)

def factory():
    return mine

def failing():
    raise RuntimeError("no disk")

def asking(size):
    return mine

number = 3
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Paths and modules as they were, and the folder stood in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path, imports=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FILE.format(imports=imports))
    return path


def test_a_file_or_a_module_has_a_task_or_a_function_that_returns_one(tmp_path):
    write(tmp_path / "folder" / "work.py", "from neighbour import value")
    (tmp_path / "folder" / "neighbour.py").write_text("value = 1")
    task = get_task("folder/work.py:mine")
    assert isinstance(task, mg.Task)
    assert task.name == "mine"
    assert get_task(f"{tmp_path}/folder/work.py:factory") is task  # run once
    write(tmp_path / "pack" / "work.py")
    assert get_task("pack.work:mine").name == "mine"


def test_a_file_in_a_package_imports_by_either_way(tmp_path):
    for folder in ("mypackage", "mypackage/inner"):
        (tmp_path / "top" / folder).mkdir(parents=True)
        (tmp_path / "top" / folder / "__init__.py").write_text("")
    (tmp_path / "top/mypackage/shared.py").write_text("value = 1")
    (tmp_path / "top/mypackage/inner/beside.py").write_text("value = 2")
    imports = "from mypackage.shared import value as a\nfrom .beside import value as b\nfrom beside import value as c"
    write(tmp_path / "top/mypackage/inner/work.py", imports)
    assert get_task("top/mypackage/inner/work.py:mine").name == "mine"


def test_a_file_may_have_the_name_of_another_module(tmp_path):
    import json

    write(tmp_path / "json.py")
    assert get_task("json.py:mine").name == "mine"
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere.py:mine", "there is no file nowhere.py"),
        ("work.py", "write work.py:NAME_OF_THE_TASK"),
        ("work.py:", "write work.py:NAME_OF_THE_TASK"),
        ("work.py:mien", "has no 'mien': did you mean mine?"),
        ("work.py:number", "is a int; expected a metricgrad.Task, or a function without arguments"),
        ("work.py:model", "is a Sequential; expected a metricgrad.Task"),
        ("work.py:failing", "work.py, line 17: RuntimeError: no disk"),
        ("work.py:asking", "TypeError: asking() missing 1 required positional argument: 'size'"),
        ("work:mien", "did you mean mine?"),
        ("nowhere.mod:mine", "there is no module 'nowhere'"),
        ("broken.py:mine", "broken.py, line 4: ModuleNotFoundError: No module named 'no_such_library'"),
        ("broken:mine", "broken.py, line 4: ModuleNotFoundError: No module named 'no_such_library'"),
        ("unparsable.py:mine", "unparsable.py, line 2: SyntaxError: "),
        ("wrong.py:mine", "wrong.py, line 4: task 'x' has 0 of train, valid and test"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, spec, words):
    write(tmp_path / "work.py")
    write(tmp_path / "broken.py", "import no_such_library")
    write(tmp_path / "wrong.py", 'mg.Task("x", model=torch.nn.Identity)')
    (tmp_path / "unparsable.py").write_text("x = 1\ndef (:\n")
    with pytest.raises(mg.MetricgradError) as raised:
        get_task(spec)
    assert str(raised.value).startswith(f"task {spec!r}")
    assert words in str(raised.value)


def test_a_comparison_takes_it(tmp_path):
    write(tmp_path / "work.py")
    table = mg.compare("work.py:mine", losses=["cross_entropy"], trials=1, seeds=1, out=str(tmp_path / "out"))
    assert {run["loss"] for run in table.to_dict()["runs"]} == {"cross_entropy"}
