"""AdaLFL's claims on tables (linear model) and images (MLP, small CNN), all with SGD, seed by seed.

Test error or test MSE after 10, 50, 200 and 1,000 steps of: the standard loss at a tuned learning rate (on the training
part, and on training and validation part together, because AdaLFL learns from both) and at AdaLFL's rate; AdaLFL after
an offline start, after the paper's (a fresh model in every round), online only as a residual, offline only (ML3, the
paper's start); a random network; one learned rate. On diabetes and digits also AdaLFL that looks ahead every second or
fourth step, or at 16 validation rows in place of 64.

No momentum, but for two settings with 0.9, where one step ahead is too short a horizon: there also AdaLFL that looks
ten steps ahead at once, offline (a third of the rounds) and online (a tenth of the updates, each ten times as large),
and what was so learned offline only.

Every loss tries the same number of learning rates on draws of the data that are not among the seeds: aligners learn
from one half of their validation part, the other half chooses. A seed takes half a minute (diabetes) to two minutes
(CNNs); after --limit seconds no further one is begun, and the next call goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from adalfl_settings import BATCH, PARTS, STANDARD, Parts, Setting, batches, settings
from common import Store, arguments, interval, paired
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.losses.networks.neural import NeuralLoss

SEEDS = 10
STEPS = 1000
AT = (10, 50, 200, 1000)
OFFLINE = 300
FIRST_DRAW = 100
FAR_STEPS = 10
STARTED: dict[str, dict[str, Any]] = {  # losses with an offline start, and their options
    "adalfl": {}, "paper_start": {}, "offline_only": {},
    "far": {"steps": FAR_STEPS, "meta_lr": 1e-2}, "far_offline_only": {},
    "every_2": {"every": 2}, "every_4": {"every": 4}, "valid_16": {},
}  # fmt: skip
PAPER_START = ("paper_start", "offline_only", "far", "far_offline_only")  # a fresh model in every round
Run = dict[str, Any]


def loss_named(setting: Setting, name: str, lr: float, parts: Parts, seed: int) -> nn.Module:
    """A fresh loss, after its offline start where it has one."""
    if name in STARTED:
        started = mg.AdaLFL(kind=setting.kind, anchored=False, seed=seed, **STARTED[name])
        rounds, inner = (OFFLINE // 3, FAR_STEPS) if name.startswith("far") else (OFFLINE, 1)
        make: Callable[[Any], torch.optim.Optimizer] = lambda parameters: setting.optimizer(parameters, lr)  # noqa: E731
        valid = batches(parts[1])
        keep = 1 if name in PAPER_START else 20
        started.offline_start(setting.model, make, batches(parts[0]), valid=valid, steps=rounds, inner=inner, keep=keep)
        return mg.Loss(started.form) if name.endswith("offline_only") else started
    if name == "residual":
        return mg.AdaLFL(kind=setting.kind, residual=True, seed=seed)
    if name == "learned_rate":
        return mg.Loss(LearnedRate("mse" if setting.regression else "cross_entropy"), LookAhead(lr=1e-2))
    return mg.Loss(NeuralLoss(kind=setting.kind, seed=seed)) if name == "random" else TaskLoss(setting.kind)


def train(setting: Setting, name: str, lr: float, parts: Parts, seed: int) -> Run:
    """1,000 steps; scores at ``AT``, and the norm of the gradient at the first and over the last ten steps."""
    loss = loss_named(setting, name, lr, parts, seed)
    inputs, targets = parts[0]
    if name == "standard_tuned_on_both":
        inputs, targets = (torch.cat(pair) for pair in zip(parts[0], parts[1], strict=True))
    torch.manual_seed(seed)
    model = setting.model()
    optimizer = setting.optimizer(model.parameters(), lr)
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, valid=batches(parts[1], 16 if name == "valid_16" else BATCH))
    generator = torch.Generator().manual_seed(seed)
    scores, norms = {}, []
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(targets), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).backward()
        norms.append(_norm(list(model.parameters())))
        optimizer.step()
        if step in AT:
            scores[str(step)] = setting.score(model, parts[2])
    return {"at": scores, "norms": [norms[0], sum(norms[-10:]) / 10], "lr": lr}


def _norm(parameters: list[Tensor]) -> float:
    return float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())


def tuned(store: Store, setting: Setting, name: str) -> float:
    """The learning rate that is best over the draws: chosen on rows neither model nor aligner has seen."""
    reached = []
    for lr in setting.rates:
        values = []
        for draw in range(FIRST_DRAW, FIRST_DRAW + setting.draws):
            key = f"{setting.name}/draw {draw}/{name}/{lr}"
            if store.get(key) is None:
                parts = setting.load(draw)
                half = len(parts[1][1]) // 2
                seen, chooses = (tuple(part[where] for part in parts[1]) for where in (slice(half), slice(half, None)))
                store.add(key, train(setting, name, lr, (parts[0], seen, chooses), draw)["at"][str(STEPS)])
            values.append(store.get(key))
        reached.append(sum(values) if all(value == value for value in values) else float("inf"))
    return setting.rates[reached.index(min(reached))]


def one_seed(store: Store, setting: Setting, seed: int, rates: dict[str, float]) -> None:
    """Every loss at its rate, and the standard loss at AdaLFL's."""
    parts = setting.load(seed)
    for name, lr in (*rates.items(), *((row, rates["adalfl"]) for row in setting.at_one_rate)):
        key = f"{setting.name}/{seed}/{name}"
        if store.get(key) is None:
            same = store.get(f"{setting.name}/{seed}/standard_tuned") if name == "standard" else None
            store.add(key, same if same and same["lr"] == lr else train(setting, name, lr, parts, seed))


def complete(store: Store, setting: Setting) -> list[int]:
    """The seeds whose runs are all there."""
    names = (*setting.tuned, *setting.at_one_rate)
    return [seed for seed in range(SEEDS) if all(store.get(f"{setting.name}/{seed}/{row}") for row in names)]


def summary(store: Store, setting: Setting) -> dict[str, Any]:
    """Means with intervals at each of ``AT``, AdaLFL's and everybody's paired differences, gradient norms."""
    seeds = complete(store, setting)
    names = (*setting.learned, *setting.at_one_rate, *STANDARD)
    runs = {n: [store.get(f"{setting.name}/{s}/{n}") for s in seeds] for n in names}
    last = {name: [run["at"][str(STEPS)] for run in some] for name, some in runs.items()}
    return {
        name: {
            "at": {str(step): interval([run["at"][str(step)] for run in some]) for step in AT},
            "minus_tuned": paired(last[name], last["standard_tuned"], setting.overlap),
            "adalfl_minus_it": paired(last["adalfl"], last[name], setting.overlap),
            "norms": [interval([run["norms"][i] for run in some])["mean"] for i in (0, 1)],
            "lr": some[0]["lr"],
        }
        for name, some in runs.items()
    }


def bars(tables: dict[str, Any]) -> list[list[Any]]:
    """What the paper claims, and whether it was found: differences are AdaLFL minus the other, after all steps."""
    found = []
    others = {
        "standard_tuned": "the tuned standard loss",
        "standard_tuned_on_both": "the tuned standard loss trained on the validation rows too",
        "learned_rate": "one learned rate",
        "offline_only": "the loss learned offline only",
    }
    for name, rows in tables.items():
        for other, what in others.items():
            if other in rows:
                gap = rows[other]["adalfl_minus_it"]
                found.append([f"{name}: AdaLFL below {what}, interval and all", gap["mean"], _below(gap)])
        if "far" in rows:
            gap = rows["far"]["adalfl_minus_it"]
            found.append([f"{name}: AdaLFL ten steps ahead below one step ahead", -gap["mean"], (gap["low"] or 0) > 0])
    if "diabetes-momentum" in tables:
        mse = {row: found["at"][str(STEPS)]["mean"] for row, found in tables["diabetes-momentum"].items()}
        ratio = mse["offline_only"] / mse["far"]
        what = "diabetes-momentum: offline only ends at twice the MSE of AdaLFL (ten steps ahead) or more"
        found.append([what, ratio, ratio >= 2])
    if "digits" in tables:
        first, at_last = tables["digits"]["adalfl"]["norms"]
        found.append(["digits: AdaLFL's gradient norm falls to a tenth", at_last / first, at_last < 0.1 * first])
    return found


def _below(gap: dict[str, Any]) -> bool:
    return gap["high"] is not None and gap["high"] < 0


def main() -> None:
    """Run what is missing, write the JSON."""
    options = arguments(__doc__, PARTS, limit=3600)
    store, known = Store("adalfl", SEEDS), settings(options.data)
    begun = time.monotonic()
    for setting in (known[name] for name in options.only):
        for seed in track(range(SEEDS), setting.name):
            if seed in complete(store, setting) or time.monotonic() - begun > options.limit:
                continue
            rates = {row: tuned(store, setting, row) for row in setting.tuned}
            one_seed(store, setting, seed, rates)
    tables = {name: summary(store, setting) for name, setting in known.items() if complete(store, setting)}
    tried = {name: {"rates": known[name].rates, "draws": known[name].draws} for name in tables}
    store.finish(offline_rounds=OFFLINE, tried=tried, tables=tables, bars=bars(tables))
    for name, rows in tables.items():
        for row, found in sorted(rows.items()):
            values = "  ".join(f"{found['at'][str(step)]['mean']:8.3f}" for step in AT)
            print(f"{name:12} {row:24} lr {found['lr']:<5} {values}   norms {found['norms'][0]:.2f} -> "
                  f"{found['norms'][1]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
