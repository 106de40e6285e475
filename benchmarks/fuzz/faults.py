"""A full disk, missing rights and torn writes at every call by which compare, train and predict change a file.

faults.c is compiled and preloaded. The calls of an undisturbed command are listed; then each of them fails in each way:
as on a full disk (it stays full), once without permission, or with half of the bytes written and the disk full from
then on. The command must end in one sentence on stderr, or as if undisturbed where it can do without that file. What
earlier commands wrote is still whole. The same command, when there is room again, must end as an undisturbed one does.
Every command is a fork of one process that has imported everything.

    python benchmarks/fuzz/faults.py
    python benchmarks/fuzz/faults.py --each 3   # so many of each kind: what is called, on which kind of file
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import metricgrad as mg  # noqa: E402
from fuzz.attacks import attack_all, import_all  # noqa: E402
from fuzz.kills import table  # noqa: E402
from metricgrad.cli.main import main as command_line  # noqa: E402
from metricgrad.tables import task as table_tasks  # noqa: E402

MODES = ("full disk", "no permission", "torn write")
TORN = 2
OPTIONS = ["--target", "left", "--metric", "f1"]
SIZES = (2, 64)
"""Epochs and rows in a step: enough that every kind of file is written, those of an epoch again."""
SOURCE = Path(__file__).with_suffix(".c")
PRELOADED = "METRICGRAD_FAULTS"
PARQUET = "answers.parquet"


def _compare(place: Path) -> list[str]:
    return [
        "compare", str(place / "table.csv"), *OPTIONS, "--losses", "cross_entropy", "--trials", "1", "--seeds", "2",
        "--out", str(place / "out"),
    ]  # fmt: skip


def _train(place: Path) -> list[str]:
    return ["train", str(place / "table.csv"), *OPTIONS, "--loss", "cross_entropy", "--out", str(place / "out" / "m")]


def _predict(place: Path, answers: str = "answers.csv") -> list[str]:
    return ["predict", str(place / "model"), str(place / "table.csv"), "--out", str(place / "out" / answers)]


def _of_study(out: Path) -> Any:
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    pages = sorted(path.name for path in out.iterdir() if path.suffix in (".html", ".md", ".json", ".png"))
    return [[{k: v for k, v in line.items() if k != "seconds"} for line in lines], pages]


def _of_model(out: Path) -> Any:
    return [mg.load_model(out / "m").scores(table()).tolist(), sorted(path.name for path in (out / "m").iterdir())]


def _of_answers(out: Path, answers: str = "answers.csv") -> Any:
    return [(out / answers).read_bytes(), sorted(path.name for path in out.iterdir())]


#: What a command is, and what is looked at of what it wrote.
JOBS: dict[str, tuple[Callable[[Path], list[str]], Callable[[Path], Any]]] = {
    "compare": (_compare, _of_study), "train": (_train, _of_model), "predict": (_predict, _of_answers),
    "predict to Parquet": (partial(_predict, answers=PARQUET), partial(_of_answers, answers=PARQUET)),
}  # fmt: skip
EARLIER = b"row,label\n1,an earlier answer\n"


def _prepared(place: Path, model: Path) -> Path:
    """What was there before the command."""
    (place / "out").mkdir(parents=True)
    table().to_csv(place / "table.csv", index=False)
    (place / "model").symlink_to(model)
    for name in ("answers.csv", PARQUET):
        (place / "out" / name).write_bytes(EARLIER)
    return place


def _child(arguments: list[str], below: Path, nth: int, mode: int) -> tuple[int, str, list[str]]:
    """A command in a forked process: its exit code, its stderr, and the calls that changed a file."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        said = io.StringIO()
        code: Any = 1
        shim, before = ctypes.CDLL(None), set(sys.modules)
        shim.calls.restype = ctypes.c_char_p
        try:
            warnings.simplefilter("ignore")
            table_tasks.sizes_of = lambda rows: SIZES
            sys.argv = ["metricgrad", *arguments]
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                shim.arm(os.fsencode(below), ctypes.c_long(nth), mode)
                command_line()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException as error:
            said.write(f"Traceback: {type(error).__name__}: {error}")
        finally:
            calls = shim.calls().decode().splitlines()
            shim.arm(b"", ctypes.c_long(0), 0)
            answer = json.dumps([code, said.getvalue()[-2000:], calls, sorted(set(sys.modules) - before)])
            os.write(write, answer.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    os.waitpid(process, 0)
    code, said, calls, modules = json.loads(found)
    import_all(modules)
    return code, said, calls


def kind_of(call: str, place: Path) -> str:
    """A call without what differs from process to process and from run to run."""
    known = re.sub(r"\.tmp\w+", ".tmp", call.replace(str(place), ""))
    return re.sub(r"\d+", "#", re.sub(r"_lr_\S+|-[0-9a-f]{8,}", "-#", known))


def _wrong(name: str, place: Path, code: int, said: str, expected: Any) -> str | None:
    """What is wrong with how a command ended that a fault was made for."""
    command, look = JOBS[name]
    sentences = [line for line in said.splitlines() if line.startswith("metricgrad: ")]
    if code not in (0, 2) or "Traceback" in said or (code == 2 and len(sentences) != 1):
        return f"ended with {code}: {said[-300:]}"
    out = place / "out"
    if name.startswith("predict") and code:
        answers = (out / (PARQUET if "Parquet" in name else "answers.csv")).read_bytes()
        if answers not in (EARLIER, expected[0]):
            return "the answers are neither the earlier ones nor the new ones"
        if "untouched" in said and answers != EARLIER:
            return f"said to be untouched, and is another: {said[-300:]}"
    if code == 0 and not _has_all(look(out), expected):
        return "ended well with something missing"
    earlier = _lines(out)
    again, said, _ = _child(command(place), out, 0, 0)
    if again != 0:
        return f"the same command does not go on: {said[-300:]}"
    if not _lines(out).startswith(earlier):
        return "the lines that were there are others"
    return None if look(out) == expected else "the same command ended otherwise"


def _has_all(found: Any, expected: Any) -> bool:
    """Whether the contents are the expected ones, and so are the names, but for what could not be removed."""
    return found[0] == expected[0] and set(expected[1]) <= set(found[1])


def _lines(out: Path) -> bytes:
    """What a study has of whole results."""
    path = out / "results.jsonl"
    raw = path.read_bytes() if path.exists() else b""
    return raw[: raw.rfind(b"\n") + 1]


def attack(name: str, each: int, seed: int) -> dict[str, Any]:
    """Of every kind of call of a command, so many fail in every way, all where there are no more."""
    command, look = JOBS[name]
    count: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder).resolve() / "model"
        table().to_csv(Path(folder) / "table.csv", index=False)
        code, said, _ = _child([*_train(Path(folder))[:-1], str(model)], Path(folder) / "out", 0, 0)
        if code:
            raise RuntimeError(said)
        whole = _prepared(Path(folder).resolve() / "whole", model)
        code, said, calls = _child(command(whole), whole / "out", 0, 0)
        if code:
            raise RuntimeError(said)
        expected = look(whole / "out")
        kinds = collections.defaultdict(list)
        for nth, call in enumerate(calls, start=1):
            kinds[kind_of(call, whole)].append(nth)
        draws = random.Random(f"{name} {seed}")
        for mode, what in enumerate(MODES):
            for kind, those in kinds.items():
                if mode == TORN and not kind.startswith("write "):
                    continue  # nothing else can be torn
                for nth in draws.sample(those, min(each, len(those))):
                    place = _prepared(Path(folder).resolve() / f"{mode}-{nth}", model)
                    code, said, _ = _child(command(place), place / "out", nth, mode)
                    count["one sentence" if code == 2 else "done without"] += 1
                    count["attacked"] += 1
                    if (wrong := _wrong(name, place, code, said, expected)) is not None:
                        faults.append(f"{what} at call {nth}, {kind}: {wrong}")
                    shutil.rmtree(place)
    return {**count, "calls": len(calls), "kinds": len(kinds), "faults": faults}


def _preload() -> None:
    """Begin again with the compiled faults loaded before the C library."""
    built = Path(tempfile.mkdtemp()) / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": str(built), PRELOADED: "1"})


if __name__ == "__main__":
    if PRELOADED not in os.environ:
        _preload()
    torch.set_num_threads(1)
    assert isinstance(table(), pd.DataFrame)  # pandas and arrow are imported before the first fork
    attack_all(__doc__, "faults", "jobs", JOBS, attack, each=sys.maxsize, unit="calls of each kind, in each way")
