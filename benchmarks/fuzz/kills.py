"""SIGKILL at random moments of compare, fit, fit_population and train: the same call again ends as if undisturbed.

What is compared with an undisturbed run: the lines of ``results.jsonl`` and the table without seconds, or the weights,
the history and the state of the loss, bit for bit.

    python benchmarks/fuzz/kills.py --each 50
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import metricgrad as mg  # noqa: E402
from fuzz.attacks import attack_all  # noqa: E402
from metricgrad.tasks.split import split  # noqa: E402
from metricgrad.training.fit import fit  # noqa: E402

X = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def _data(seed: int) -> Any:
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(seed))
    return split(x, x[:, :3].argmax(1), seed)


def compare_job(out: Path) -> Any:
    """Trials that TPE decides among them, seeds, and a loss that learns."""
    task = mg.Task("tiny", model=lambda: nn.Linear(4, 3), load=_data, metric="accuracy", epochs=1, batch_size=60)
    table = mg.compare(task, losses=["cross_entropy", "uniloss"], trials=12, seeds=3, out=out, progress=False)
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return _timeless([table.to_dict(), lines])


def fit_job(out: Path) -> Any:
    """A network with momentum, and a loss whose policy learns."""
    torch.manual_seed(0)
    loss = mg.ALA("accuracy", num_outputs=3, every=2)
    result = fit(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3)), (X[:80], Y[:80]),
        (X[80:], Y[80:]), metric="accuracy", loss=loss, out=out, epochs=8, batch_size=20, progress=False, device="cpu",
    )  # fmt: skip
    return _timeless([result.history, result.decision.described(), result.valid, _numbers(result.model.state_dict())])


def population_job(out: Path) -> Any:
    """Three children, the worst now and then a copy of the best."""
    loss = mg.ALA("accuracy", num_outputs=3, every=2)
    found = mg.fit_population(
        lambda: nn.Linear(4, 3), (X[:80], Y[:80]), (X[80:], Y[80:]), metric="accuracy", loss=loss, children=3, epochs=6,
        batch_size=20, out=out, progress=False, stacked=False, copy_best=2,
    )  # fmt: skip
    children = [[child.history, _numbers(child.model.state_dict())] for child in found.results]
    return _timeless([children, found.histories, _numbers(loss.aligner.state_dict())])


def table() -> pd.DataFrame:
    """A small table with a number that is missing, and a category."""
    rng = np.random.default_rng(0)
    age, city = rng.integers(18, 80, 160).astype(float), rng.choice(["Oslo", "Rome"], 160)
    left = np.where(age + 20 * (city == "Rome") + rng.normal(0, 10, 160) > 60, "yes", "no")
    age[::9] = np.nan
    return pd.DataFrame({"age": age, "city": city, "left": left})


def train_job(out: Path) -> Any:
    """A table's model, trained and written as a folder."""
    task = mg.task_of_table(table(), target="left", metric="f1")
    task.epochs = 8
    mg.train_table(task, out=out, progress=False)
    again = mg.load_model(out)
    return _timeless([again.card, again.scores(table()).tolist(), sorted(path.name for path in out.iterdir())])


JOBS: dict[str, Callable[[Path], Any]] = {
    "compare": compare_job, "fit": fit_job, "fit_population": population_job, "train": train_job
}  # fmt: skip


def _numbers(state: dict[str, Any]) -> Any:
    """Every bit, as JSON can hold it."""
    return {
        name: [str(value.dtype), value.contiguous().view(torch.uint8).tolist() if value.ndim else [float(value)]]
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def _timeless(value: Any) -> Any:
    """Without what a clock says."""
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key != "seconds"}
    return [_timeless(each) for each in value] if isinstance(value, list | tuple) else value


def _child(job: Callable[[Path], Any], out: Path, answer: Path) -> int:
    """The job in a process of its own, forked from this one, which has imported everything and started no thread."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        warnings.simplefilter("ignore")
        found = json.dumps(job(out))
        part = answer.with_suffix(".part")
        part.write_text(found)
        part.replace(answer)
        code = 0
    except BaseException:
        answer.with_suffix(".error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _finished(job: Callable[[Path], Any], out: Path, answer: Path) -> Any:
    os.waitpid(_child(job, out, answer), 0)
    if not answer.exists():
        raise RuntimeError(answer.with_suffix(".error").read_text())
    return json.loads(answer.read_text())


def attack(name: str, each: int, seed: int) -> dict[str, Any]:
    """So many kills of a job; how many reruns ended as the undisturbed run did."""
    rng, job = random.Random(f"{name} {seed}"), JOBS[name]
    count: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        started = time.perf_counter()
        expected = _finished(job, folder / "whole", folder / "whole.json")
        duration = time.perf_counter() - started
        reruns = 0
        while count["kills"] < each:
            out, answer = folder / f"out{reruns}", folder / f"answer{reruns}.json"
            reruns += 1
            for _ in range(rng.choice([1, 1, 1, 2, 3])):  # some are killed again while they are taken up
                if count["kills"] == each or answer.exists():
                    break
                process = _child(job, out, answer)
                time.sleep(rng.random() * duration)
                os.kill(process, signal.SIGKILL)
                _, status = os.waitpid(process, 0)
                count["kills" if os.WIFSIGNALED(status) else "too late"] += 1
            answer.unlink(missing_ok=True)
            try:
                same = _finished(job, out, answer) == expected
                count["ended as undisturbed" if same else "ended otherwise"] += 1
                if not same:
                    faults.append(f"rerun {reruns} ended otherwise")
            except RuntimeError as error:
                faults.append(str(error).strip().splitlines()[-1][:300])
    return {**count, "reruns": reruns, "faults": faults, "seconds of an undisturbed run": duration}


if __name__ == "__main__":
    attack_all(__doc__, "kills", "jobs", JOBS, attack, each=50, unit="kills of each job")
