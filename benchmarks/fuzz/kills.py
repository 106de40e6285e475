"""SIGKILL at random moments of whatever writes: the same call again ends as if undisturbed.

What is compared with an undisturbed run: the lines of ``results.jsonl`` and the table without seconds, or the weights,
the history and the state of the loss, or the answers, bit for bit. A model or answers under their final name must be
whole after a kill. Of several workers on one folder one is killed, and nobody calls again: the others must end with the
table of one worker, and every run in it once.

    python benchmarks/fuzz/kills.py --each 50
"""

from __future__ import annotations

import collections
import functools
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import metricgrad as mg  # noqa: E402
from fuzz.attacks import attack_all, import_all  # noqa: E402
from metricgrad.tables.answers import answer_file  # noqa: E402
from metricgrad.tasks.split import split  # noqa: E402
from metricgrad.training.fit import fit  # noqa: E402

X = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def _data(seed: int) -> Any:
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(seed))
    return split(x, x[:, :3].argmax(1), seed)


def compare_job(out: Path, trials: int = 12) -> Any:
    """Trials that TPE decides among them, seeds, and a loss that learns."""
    task = mg.Task("tiny", model=lambda: nn.Linear(4, 3), load=_data, metric="accuracy", epochs=1, batch_size=60)
    table = mg.compare(task, losses=["cross_entropy", "uniloss"], trials=trials, seeds=3, out=out, progress=False)
    return _timeless([table.to_dict(), _lines(out)])


def _lines(out: Path) -> list[Any]:
    """Of a study, in an order that does not tell who of several workers came first."""
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["loss"], line.get("trial", -1), line.get("seed", -1)))


def compare_file_job(out: Path) -> Any:
    """A study of a file, its pages included."""
    task = mg.task_of_table(out.parent / TABLE, target="left", metric="f1")
    task.epochs = 4
    table = mg.compare(task, losses=["cross_entropy", "uniloss"], trials=2, seeds=2, out=out, progress=False)
    pages = sorted(path.name for path in out.iterdir() if path.suffix in (".html", ".md", ".json", ".png"))
    return _timeless([table.to_dict(), _lines(out), pages])


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


def whole_model(out: Path, expected: Any) -> bool:
    """A model whose card is there answers as it should."""
    return not (out / "card.json").exists() or mg.load_model(out).scores(table()).tolist() == expected[1]


def predict_job(out: Path) -> Any:
    """Answers of a small model for a file, in a hundred chunks."""
    out.mkdir(exist_ok=True)
    answer_file(mg.load_model(out.parent / MODEL), out.parent / TABLE, out / ANSWERS, rows=2)
    return (out / ANSWERS).read_text()


def whole_answers(out: Path, expected: Any) -> bool:
    """No half of them under their name."""
    return not (out / ANSWERS).exists() or (out / ANSWERS).read_text() == expected


@dataclass(frozen=True)
class Job:
    """What is killed.

    Attributes:
        run: writes into a folder, and returns what must be the same whatever happened; beside the folder is a table.
        kept: whether what a killed process left, given what an undisturbed one returns, is whole.
        workers: that work on the folder at the same time.
        needs: is made beside the folder before, by its name.
    """

    run: Callable[[Path], Any]
    kept: Callable[[Path, Any], bool] = lambda out, expected: True
    workers: int = 1
    needs: tuple[str, Callable[[Path], Any]] | None = None


TABLE, MODEL, ANSWERS = "table.csv", "model", "answers.csv"
_shorter_job = functools.partial(compare_job, trials=4)
JOBS = {
    "compare": Job(compare_job), "compare, 2 workers": Job(_shorter_job, workers=2),
    "compare, 8 workers": Job(_shorter_job, workers=8), "compare FILE": Job(compare_file_job), "fit": Job(fit_job),
    "fit_population": Job(population_job), "train": Job(train_job, whole_model),
    "predict": Job(predict_job, whole_answers, needs=(MODEL, train_job)),
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
    code, before = 1, set(sys.modules)
    try:
        warnings.simplefilter("ignore")
        found = job(out)
        part = answer.with_suffix(".part")
        part.write_text(json.dumps([found, sorted(set(sys.modules) - before)]))
        part.replace(answer)
        code = 0
    except BaseException:
        answer.with_suffix(".error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _answered(answer: Path) -> Any:
    """What a job that ended returned."""
    if not answer.exists():
        raise RuntimeError(answer.with_suffix(".error").read_text().strip().splitlines()[-1][:300])
    found, modules = json.loads(answer.read_text())
    import_all(modules)
    return found


def _finished(job: Callable[[Path], Any], out: Path, answer: Path) -> Any:
    os.waitpid(_child(job, out, answer), 0)
    return _answered(answer)


class Attack:
    """Kills of one job, counted.

    Args:
        job: that is killed.
        folder: of this attack.
        rng: draws the moments.
    """

    def __init__(self, job: Job, folder: Path, rng: random.Random) -> None:
        self.job, self.folder, self.rng = job, folder, rng
        self.count: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        _finished(job.run, folder / "imports", folder / "imports.json")
        started = time.perf_counter()
        self.expected = _finished(job.run, folder / "whole", folder / "whole.json")
        self.duration = time.perf_counter() - started

    def round(self, number: int, each: int) -> None:
        """A folder on which processes work until one has ended well; all must end as an undisturbed one."""
        out, answers = (
            self.folder / f"out{number}",
            [self.folder / f"{number}-{i}.json" for i in range(self.job.workers)],
        )
        self.count["reruns"] += 1
        try:
            if self.job.workers == 1:
                for _ in range(self.rng.choice([1, 1, 1, 2, 3])):  # some are killed again while they are taken up
                    if self.count["kills"] < each and not answers[0].exists():
                        self._kill(_child(self.job.run, out, answers[0]), out)
                answers[0].unlink(missing_ok=True)
                ended = [_finished(self.job.run, out, answers[0])]
            else:
                workers = [_child(self.job.run, out, answer) for answer in answers]
                killed = self._kill(workers[0], out)
                for worker in workers[1:]:
                    os.waitpid(worker, 0)
                ended = [_answered(answer) for answer in answers[killed:]]
        except RuntimeError as error:
            self.faults.append(str(error))
            return
        same = all(one == self.expected for one in ended)
        self.count["ended as undisturbed" if same else "ended otherwise"] += 1
        if not same:
            self.faults.append(f"rerun {number} ended otherwise")

    def _kill(self, process: int, out: Path) -> bool:
        """At a random moment; whether it was still at work."""
        time.sleep(self.rng.random() * self.duration)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status)
        self.count["kills" if killed else "too late"] += 1
        if killed and not self.job.kept(out, self.expected):
            self.faults.append("what a kill left is not whole")
        return killed


def attack(name: str, each: int, seed: int) -> dict[str, Any]:
    """So many kills of a job; how many reruns ended as the undisturbed run did."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table().to_csv(folder / TABLE, index=False)
        if (needs := JOBS[name].needs) is not None:
            _finished(needs[1], folder / needs[0], folder / "needs.json")
        made = Attack(JOBS[name], folder, random.Random(f"{name} {seed}"))
        while made.count["kills"] < each:
            made.round(made.count["reruns"], each)
    return {**made.count, "workers": JOBS[name].workers, "faults": made.faults,
            "seconds of an undisturbed run": made.duration}  # fmt: skip


if __name__ == "__main__":
    attack_all(__doc__, "kills", "jobs", JOBS, attack, each=50, unit="kills of each job")
