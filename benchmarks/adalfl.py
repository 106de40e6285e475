"""AdaLFL's claims on digits (MLP) and diabetes (linear model), both with plain SGD, seed by seed.

Test error or test MSE after 10, 50, 200 and 1,000 steps of: the standard loss at the same learning rate and at a tuned
one (on the training part, and on training and validation part together, because AdaLFL learns from both); AdaLFL after
an offline start, online only as a residual, offline only (ML3); a random network; one learned rate.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import Store, arguments, interval, paired
from metricgrad.aligners.look_ahead import LookAhead
from metricgrad.losses.neural import NeuralLoss
from metricgrad.losses.residual import LearnedRate
from metricgrad.losses.task_loss import TaskLoss
from metricgrad.models.mlp import mlp
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.split import Part

SEEDS = 10
STEPS = 1000
AT = (10, 50, 200, 1000)
BATCH = 64
LIMIT = 240  # seconds after which no further seed is begun; call again to go on, the intervals say how many there are
OFFLINE = 300
PARTS = ("digits", "diabetes")
LEARNED = ("adalfl", "offline_only", "residual", "learned_rate", "random")
Make = Callable[[], nn.Module]
Optimizer = Callable[[Any], torch.optim.Optimizer]
Run = dict[str, Any]


class Setting:
    """One data set with its model, its learning rate, and the grid its standard loss is tuned over."""

    def __init__(self, name: str) -> None:
        self.name, self.task = name, get_task(name)
        self.regression = name == "diabetes"
        self.kind: Any = "regression" if self.regression else "classification"
        self.lr = 0.01
        self.grid = (0.01, 0.03, 0.1) if self.regression else (0.01, 0.05, 0.2, 0.8)

    def model(self) -> nn.Module:
        """A fresh one."""
        return nn.Sequential(nn.Linear(10, 1), nn.Flatten(0)) if self.regression else mlp(64, 10)

    def optimizer(self, parameters: Any, lr: float) -> torch.optim.Optimizer:
        """SGD without momentum: with a momentum of 0.9 the network learned one step ahead overshoots and diverges."""
        return torch.optim.SGD(parameters, lr=lr)

    def score(self, model: nn.Module, part: Part) -> float:
        """Test MSE, or error in percent."""
        with torch.no_grad():
            scores = model(part[0])
        if self.regression:
            return float((scores - part[1]).square().mean())
        return 100 * float((scores.argmax(1) != part[1]).float().mean())


def batches(part: Part) -> list[Part]:
    """Whole batches, in order."""
    cuts = range(0, max(1, len(part[1]) - BATCH + 1), BATCH)
    return [(part[0][i : i + BATCH], part[1][i : i + BATCH]) for i in cuts]


def train(setting: Setting, loss: nn.Module, lr: float, parts: tuple[Part, Part, Part], seed: int) -> Run:
    """1,000 steps; scores at ``AT``, and the norm of the gradient at the first and over the last ten steps."""
    (inputs, targets), valid, test = parts
    torch.manual_seed(seed)
    model = setting.model()
    optimizer = setting.optimizer(model.parameters(), lr)
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, valid=batches(valid))
    generator = torch.Generator().manual_seed(seed)
    scores, norms = {}, []
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(targets), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).backward()
        norms.append(_norm(list(model.parameters())))
        optimizer.step()
        if step in AT:
            scores[str(step)] = setting.score(model, test)
    return {"at": scores, "valid": setting.score(model, valid), "norms": [norms[0], sum(norms[-10:]) / 10]}


def _norm(parameters: list[Tensor]) -> float:
    return float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())


def learned(setting: Setting, name: str, seed: int, parts: tuple[Part, Part, Part], started: mg.Loss) -> Run:
    """One of the learned losses or their controls."""
    standard = "mse" if setting.regression else "cross_entropy"
    losses: dict[str, Callable[[], nn.Module]] = {
        "adalfl": lambda: copy.deepcopy(started),
        "offline_only": lambda: mg.Loss(copy.deepcopy(started.form)),
        "residual": lambda: mg.AdaLFL(kind=setting.kind, residual=True, seed=seed),
        "learned_rate": lambda: mg.Loss(LearnedRate(standard), LookAhead(lr=1e-2)),
        "random": lambda: mg.Loss(NeuralLoss(kind=setting.kind, seed=seed)),
    }
    return train(setting, losses[name](), setting.lr, parts, seed)


def one_seed(store: Store, setting: Setting, seed: int) -> None:
    """Everything for one draw of the data."""
    parts = setting.task.load(seed)
    both = tuple(torch.cat(pair) for pair in zip(parts[0], parts[1], strict=True))
    for lr in sorted({*setting.grid, setting.lr}):
        key = f"{setting.name}/{seed}/standard/{lr}"
        if store.get(key) is None:
            store.add(key, train(setting, TaskLoss(setting.kind), lr, parts, seed))
            with_valid = train(setting, TaskLoss(setting.kind), lr, (both, parts[1], parts[2]), seed)
            store.add(f"{setting.name}/{seed}/both/{lr}", with_valid)
    if all(store.get(f"{setting.name}/{seed}/{name}") for name in LEARNED):
        return
    started = mg.AdaLFL(kind=setting.kind, seed=seed)
    make: Optimizer = lambda parameters: setting.optimizer(parameters, setting.lr)  # noqa: E731
    started.offline_start(setting.model, make, batches(parts[0]), valid=batches(parts[1]), steps=OFFLINE)
    for name in LEARNED:
        key = f"{setting.name}/{seed}/{name}"
        if store.get(key) is None:
            store.add(key, learned(setting, name, seed, parts, started))


def complete(store: Store, name: str) -> list[int]:
    """The seeds whose runs are all there."""
    return [seed for seed in range(SEEDS) if all(store.get(f"{name}/{seed}/{row}") for row in LEARNED)]


def summary(store: Store, setting: Setting) -> dict[str, Any]:
    """Means with intervals at each of ``AT``, paired differences from the tuned standard loss, gradient norms."""
    seeds = complete(store, setting.name)
    runs: dict[str, list[Run]] = {n: [store.get(f"{setting.name}/{s}/{n}") for s in seeds] for n in LEARNED}
    runs["standard"] = [store.get(f"{setting.name}/{s}/standard/{setting.lr}") for s in seeds]
    for name, kind in (("standard_tuned", "standard"), ("standard_tuned_on_both", "both")):
        runs[name] = []
        for seed in seeds:  # the rate is chosen on validation data the first kind has not trained on
            best = min(setting.grid, key=lambda lr, s=seed: store.get(f"{setting.name}/{s}/standard/{lr}")["valid"])
            runs[name].append(store.get(f"{setting.name}/{seed}/{kind}/{best}"))
    last = str(AT[-1])
    tuned = [run["at"][last] for run in runs["standard_tuned"]]
    return {
        name: {
            "at": {str(step): interval([run["at"][str(step)] for run in some]) for step in AT},
            "minus_tuned": paired([run["at"][last] for run in some], tuned),
            "norms": [interval([run["norms"][i] for run in some])["mean"] for i in (0, 1)],
        }
        for name, some in runs.items()
    }


def main() -> None:
    """Run what is missing, write the JSON."""
    chosen = arguments(__doc__, PARTS).only
    store = Store("adalfl", SEEDS)
    begun = time.monotonic()
    for name in chosen:
        setting = Setting(name)
        for seed in track(range(SEEDS), name):
            if time.monotonic() - begun < LIMIT:
                one_seed(store, setting, seed)
    tables = {name: summary(store, Setting(name)) for name in PARTS if complete(store, name)}
    bars = []
    if "digits" in tables:
        rows, last = tables["digits"], str(AT[-1])
        bars += [
            ["digits: AdaLFL's error is below cross-entropy's at the same rate",
             rows["adalfl"]["at"][last]["mean"] - rows["standard"]["at"][last]["mean"],
             rows["adalfl"]["at"][last]["mean"] < rows["standard"]["at"][last]["mean"]],
            ["digits: AdaLFL's error is below tuned cross-entropy's, interval and all",
             rows["adalfl"]["minus_tuned"]["mean"], rows["adalfl"]["minus_tuned"]["high"] < 0],
            ["digits: its gradient norm falls to a tenth (the implicit schedule)",
             rows["adalfl"]["norms"][1] / rows["adalfl"]["norms"][0],
             rows["adalfl"]["norms"][1] < 0.1 * rows["adalfl"]["norms"][0]],
        ]  # fmt: skip
    if "diabetes" in tables:
        rows, last = tables["diabetes"], str(AT[-1])
        offline, online = rows["offline_only"]["at"][last]["mean"], rows["adalfl"]["at"][last]["mean"]
        bars += [["diabetes: offline only ends at twice AdaLFL's MSE or more (short horizon)", offline / online,
                  offline >= 2 * online]]  # fmt: skip
    store.finish(offline_rounds=OFFLINE, tables=tables, bars=bars)
    for name, rows in tables.items():
        for row, found in sorted(rows.items()):
            values = "  ".join(f"{found['at'][str(step)]['mean']:8.3f}" for step in AT)
            print(f"{name:9} {row:24} {values}   norms {found['norms'][0]:.2f} -> {found['norms'][1]:.2f}")


if __name__ == "__main__":
    main()
