"""Malformed files by the thousand: losses, policies, folders of studies, of runs and of models.

Every file is a sound one with something spoiled, read as a user's next call reads it. It may be taken (what was
spoiled is of no account, or is mended) or refused by one MetricgradError that names it; anything else is a fault:
another exception, or a module imported because a file named it.

    python benchmarks/fuzz/files.py --each 5000
"""

from __future__ import annotations

import collections
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from tests.contract.registry import LOSSES  # noqa: E402

import metricgrad as mg  # noqa: E402
from fuzz.attacks import attack_all  # noqa: E402
from fuzz.kills import table  # noqa: E402
from fuzz.spoiling import dumped, spoil_bytes, spoil_json, spoil_tensors  # noqa: E402
from metricgrad.aligners.knobs.controller import KnobController  # noqa: E402
from metricgrad.aligners.knobs.policy import Policy  # noqa: E402
from metricgrad.aligners.knobs.state import FEATURES, ROLES  # noqa: E402
from metricgrad.comparison import study  # noqa: E402
from metricgrad.tasks.split import split  # noqa: E402
from metricgrad.training.fit import fit  # noqa: E402
from metricgrad.training.model_folder import CARD  # noqa: E402

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Headed:
    """Losses of every form and aligner, and policies: load, then one call and two evaluations."""

    def __init__(self, folder: Path, *, policies: bool) -> None:
        self.path = folder / "spoiled.safetensors"
        self.named = self.path.name
        self.sound: dict[str, tuple[bytes, Any, dict[str, Any], Any]] = {}
        for name, (make, data) in LOSSES.items():
            loss = make()
            scores, targets = data(16, torch.float32)
            scores.requires_grad_()
            loss(scores, targets).backward()
            if isinstance(loss.aligner, KnobController):
                for _ in range(3):
                    loss.observe(scores.detach(), targets)
            if not policies:
                loss.save(self.path)
            elif name.startswith("ala"):
                learner = mg.Loss(loss.form, Policy("accuracy", learner="reinforce", warm_up=0))
                for _ in range(4):
                    learner.observe(scores.detach(), targets)
                learner.aligner.save(self.path)
            else:
                continue
            with safe_open(self.path, "pt") as file:
                header = json.loads(file.metadata()["metricgrad"])
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            self.sound[name] = self.path.read_bytes(), data, header, tensors
        self.policies = policies

    def spoil(self, rng: random.Random) -> None:
        """One file."""
        self.name = rng.choice(sorted(self.sound))
        raw, _, header, tensors = self.sound[self.name]
        kind = rng.random()
        if kind < 0.25:
            spoiled = spoil_bytes(raw, rng)
        elif kind < 0.65:
            spoiled = save(tensors, metadata={"metricgrad": dumped(spoil_json(header, rng), rng)})
        else:
            spoiled = save(spoil_tensors(tensors, rng), metadata={"metricgrad": json.dumps(header)})
        self.path.write_bytes(spoiled)

    def read(self) -> Callable[[], object]:
        """Load; what it is used for follows."""
        if self.policies:
            policy = Policy.load(self.path)
            return lambda: policy.network.logs(torch.zeros(1, FEATURES + ROLES))
        loss = mg.load_loss(self.path)
        return lambda: self._use(loss)

    def _use(self, loss: mg.Loss) -> None:
        scores, targets = self.sound[self.name][1](16, torch.float32)
        scores.requires_grad_()
        value = loss(scores, targets)
        if value.requires_grad:
            value.backward()
        if isinstance(loss.aligner, KnobController):
            for _ in range(2):
                loss.observe(scores.detach(), targets)
            _ = loss.aligner.history


class Folder:
    """A folder that a job has left, spoiled in one file, and the same call again."""

    def __init__(self, folder: Path, job: Callable[[Path], Any], files: tuple[str, ...], named: str) -> None:
        self.job, self.files, self.named = job, files, named
        self.sound, self.path = folder / "sound", folder / "spoiled"
        job(self.sound)

    def spoil(self, rng: random.Random) -> None:
        """One file of a fresh copy; now and then it is gone, or a folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.sound, self.path, ignore=shutil.ignore_patterns("events.*", "*.png", ".lock"))
        name = rng.choice(self.files)
        path = self.path / name
        raw, kind = path.read_bytes(), rng.random()
        if kind < 0.03:
            path.unlink()
            return
        if kind < 0.05:
            path.unlink()
            path.mkdir()
            return
        if name.endswith(".jsonl"):
            lines = raw.decode().splitlines()
            place = rng.randrange(len(lines))
            if kind < 0.6:
                lines[place] = dumped(spoil_json(json.loads(lines[place]), rng), rng)
            elif kind < 0.7:
                lines[place] = rng.choice(["null", "", "[]", "3", '"x"', "{}", lines[place][:17], lines[place] * 2])
            elif kind < 0.8:
                lines.insert(place, rng.choice(lines))
            elif kind < 0.85:
                del lines[place]
            else:
                path.write_bytes(spoil_bytes(raw, rng))
                return
            path.write_text("\n".join(lines) + "\n")
        elif name.endswith(".json") and kind < 0.7:
            path.write_text(dumped(spoil_json(json.loads(raw), rng), rng))
        elif name.endswith(".ckpt") and kind < 0.7:
            held = torch.load(path, weights_only=True)
            torch.save(_spoil_state(held, rng), path)
        elif name.endswith(".safetensors") and kind < 0.7:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            path.write_bytes(save(spoil_tensors(tensors, rng), metadata={"format": "pt"}))
        else:
            path.write_bytes(spoil_bytes(raw, rng))

    def read(self) -> Callable[[], object]:
        """The same call again."""
        self.job(self.path)
        return lambda: None


class Model(Folder):
    """A model's folder whose checksums are mostly those of the spoiled files, so that the files themselves are read."""

    def spoil(self, rng: random.Random) -> None:
        """As any folder, and the card anew."""
        super().spoil(rng)
        card = self.path / CARD
        if rng.random() < 0.2 or not card.is_file() or card.read_bytes() != (self.sound / CARD).read_bytes():
            return
        found = json.loads(card.read_bytes())
        there = [name for name in found["files"] if (self.path / name).is_file()]
        found["files"] |= {name: hashlib.sha256((self.path / name).read_bytes()).hexdigest() for name in there}
        card.write_text(json.dumps(found))


def _spoil_state(value: Any, rng: random.Random) -> Any:
    """Nested containers of tensors and numbers with one leaf changed."""
    if isinstance(value, dict) and value and rng.random() < 0.97:
        key = rng.choice(sorted(value, key=str))
        changed = dict(value)
        if isinstance(value[key], torch.Tensor):
            spoiled = spoil_tensors({"x": value[key]}, rng)
            changed.pop(key)
            changed |= {key if name == "x" else name: tensor for name, tensor in spoiled.items()}
        elif rng.random() < 0.05:
            del changed[key]
        else:
            changed[key] = _spoil_state(value[key], rng)
        return changed
    if isinstance(value, list | tuple) and value and rng.random() < 0.97:
        place = rng.randrange(len(value))
        return [_spoil_state(v, rng) if i == place else v for i, v in enumerate(value)]
    return spoil_json([value if isinstance(value, bool | int | float | str | None) else 0], rng)


def fit_job(out: Path) -> Any:
    """A short run with a loss that has a state of its own."""
    torch.manual_seed(0)
    return fit(
        nn.Linear(4, 3), (X[:40], Y[:40]), (X[40:], Y[40:]), metric="accuracy", out=out, epochs=2, progress=False,
        loss=mg.ALA("accuracy", num_outputs=3), batch_size=20, device="cpu",
    )  # fmt: skip


def cut_fit_job(out: Path) -> Any:
    """The same run, stopped before it was finished."""
    if out.name == "sound":
        fit_job(out)
        (out / "result.json").unlink()
        return None
    return fit_job(out)


def population_job(out: Path) -> Any:
    """Two children."""
    return mg.fit_population(
        lambda: nn.Linear(4, 3), (X[:40], Y[:40]), (X[40:], Y[40:]), metric="accuracy", children=2, epochs=2, out=out,
        progress=False, loss=mg.ALA("accuracy", num_outputs=3), batch_size=20, stacked=False,
    )  # fmt: skip


def network_job(out: Path) -> Any:
    """A network of one's own, saved; or loaded again, to answer."""
    if out.name != "sound":
        return mg.load_model(out, model=lambda: nn.Linear(4, 3)).predict(X)
    loss = mg.ALA("accuracy", num_outputs=3)
    parts = (X[:40], Y[:40]), (X[40:], Y[40:])
    return mg.fit(nn.Linear(4, 3), *parts, metric="accuracy", loss=loss, epochs=2, device="cpu").save(out)


def table_job(out: Path) -> Any:
    """A table's model, trained; or loaded again, to answer."""
    if out.name != "sound":
        return mg.load_model(out).predict(table())
    task = mg.task_of_table(table(), target="left", metric="f1")
    task.epochs = 2
    return mg.train_table(task, out=out, progress=False, loss="cross_entropy")


def trees_job(out: Path) -> Any:
    """LightGBM's trees, grown; or loaded again, to answer."""
    if out.name != "sound":
        return mg.load_model(out).predict(table())
    task = mg.task_of_table(table(), target="left", metric="f1")
    return mg.train_table(task, out=out, progress=False, loss="lightgbm")


def _data(seed: int) -> Any:
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(seed))
    return split(x, x[:, :3].argmax(1), seed)


def study_job(out: Path) -> Any:
    """Two losses, three trials, two seeds; its picture is not drawn."""
    task = mg.Task("tiny", model=lambda: nn.Linear(4, 3), load=_data, metric="accuracy", epochs=1, batch_size=45)
    with patch.object(study, "plot", lambda table, path: path):
        return mg.compare(
            task, losses=["cross_entropy", nn.MultiMarginLoss], trials=3, seeds=2, out=out, controls=False,
            progress=False,
        )  # fmt: skip


KINDS: dict[str, Callable[[Path], Any]] = {
    "losses": lambda folder: Headed(folder, policies=False),
    "policies": lambda folder: Headed(folder, policies=True),
    "studies": lambda folder: Folder(folder, study_job, ("results.jsonl", "config.json"), ""),
    "finished runs": lambda folder: Folder(folder, fit_job, ("result.json", "model.safetensors", "last.ckpt"), ""),
    "checkpoints": lambda folder: Folder(folder, cut_fit_job, ("last.ckpt",), ""),
    "networks": lambda folder: Model(folder, network_job, (CARD, "weights.safetensors"), ""),
    "tables": lambda folder: Model(folder, table_job, (CARD, "model.safetensors", "preprocessing.safetensors"), ""),
    "trees": lambda folder: Model(folder, trees_job, (CARD, "model.txt"), ""),
    "populations": lambda folder: Folder(folder, population_job, ("last.ckpt", "result.json"), ""),
}


def attack(kind: str, each: int, seed: int) -> dict[str, Any]:
    """So many spoiled files of a kind; what came of them."""
    rng = random.Random(f"{kind} {seed}")
    count: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        sprung = folder / "sprung"
        (folder / "trap.py").write_text(f"open({str(sprung)!r}, 'w')\ndef fn(scores, targets):\n    return 0.0\n")
        sys.path.insert(0, place)
        kept = KINDS[kind](folder)
        for _ in range(each):
            kept.spoil(rng)
            started = time.perf_counter()
            try:
                use = kept.read()
                try:
                    use()
                    count["taken"] += 1
                except mg.MetricgradError:
                    count["refused in use"] += 1
            except mg.MetricgradError as error:
                count["refused"] += 1
                if kept.named not in str(error) or "\n" in str(error):
                    faults[f"does not name the file in one line: {error}"[:200]] += 1
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                faults[f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"[:200]] += 1
            slowest = max(slowest, time.perf_counter() - started)
        sys.path.remove(place)
        if sprung.exists():
            faults["imported a module that a file named"] += 1
    return {"files": each, **count, "faults": dict(faults.most_common(20)), "slowest": slowest}


if __name__ == "__main__":
    attack_all(__doc__, "files", "kinds", KINDS, attack, each=5000, unit="files of each kind")
