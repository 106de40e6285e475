"""Three things the paper sees in the loss AdaLFL learns, each as a figure and as numbers, over a few seeds.

A schedule (digits): the implied learning rate, and with it the gradient, falls during training. Early stopping (digits
with 40 % wrong labels): the test loss does not rise again as cross-entropy's does. Label smoothing (the same training):
the learned loss of a true class is least at a probability below 1, and the network is less sure of itself.

Everything drawn is what the aligner records while it watches; cross-entropy is watched the same way, as one learned
rate whose meta-learning rate is zero. SGD without momentum at one rate; nothing here is tuned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import RESULTS, Store, arguments, interval
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.split import Part

SEEDS = 10
STEPS = 1000
OFFLINE = 300
BATCH = 64
RATE = 0.2
EVERY = 20
WINDOW = 50  # steps over whose median the first and the last of a quantity are taken, the very first step left out
TASKS = ("digits", "digits-noisy")
LOSSES = ("cross_entropy", "adalfl")
COLOURS = {"cross_entropy": "#999999", "adalfl": "#1f5fa8"}
Run = dict[str, Any]


def batches(part: Part) -> list[Part]:
    """Whole batches."""
    return [pair for pair in zip(part[0].split(BATCH), part[1].split(BATCH), strict=True) if len(pair[1]) == BATCH]


def loss_named(name: str, train: Part, valid: Part, seed: int) -> mg.Loss:
    """AdaLFL after its offline start, or cross-entropy, watched."""
    if name == "cross_entropy":
        return mg.Loss(LearnedRate("cross_entropy"), LookAhead(lr=0.0))
    loss = mg.AdaLFL(10, anchored=False, seed=seed)
    loss.offline_start(
        lambda: mlp(64, 10), lambda parameters: torch.optim.SGD(parameters, lr=RATE), batches(train),
        valid=batches(valid), steps=OFFLINE,
    )  # fmt: skip
    return loss


def train_one(task: str, name: str, seed: int) -> Run:
    """What was recorded: history, test loss and error at times, the loss's curves, the network's confidence."""
    train, valid, test = get_task(task).load(seed)
    loss = loss_named(name, train, valid, seed)
    torch.manual_seed(seed)
    model = mlp(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loss.attach(model, optimizer, valid=batches(valid))
    generator = torch.Generator().manual_seed(seed)
    tests = []
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(train[1]), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(model(train[0][rows]), train[1][rows]).backward()
        optimizer.step()
        if step % EVERY == 0:
            tests.append(_judged(model, test))
    recorded = loss.aligner.recorded  # type: ignore[attr-defined]
    shape: Any = getattr(loss.form, "shape", None)
    shapes = [*recorded.shapes, (STEPS, shape())] if shape else []
    return {
        "implied_rate": [round(row["implied_rate"], 7) for row in recorded.rows],
        "gradient_norm": [round(row["gradient_norm"], 6) for row in recorded.rows],
        "test_loss": [loss for loss, _ in tests],
        "test_error": [error for _, error in tests],
        "curves": [[step, [round(v, 5) for v in true_class(curves).tolist()]] for step, curves in shapes],
        "confidence": float(model(test[0]).softmax(1).max(1).values.mean().detach()),
    }


def _judged(model: nn.Module, part: Part) -> tuple[float, float]:
    with torch.no_grad():
        scores = model(part[0])
    error = 100 * float((scores.argmax(1) != part[1]).float().mean())
    return float(nn.functional.cross_entropy(scores, part[1])), error


def true_class(curves: Any) -> Tensor:
    """The learned loss over the true class's probability p, the other nine sharing 1 - p evenly."""
    p = curves["prediction"].numpy()
    others = np.interp((1 - p) / 9, p, curves["target_0"].numpy())
    return torch.from_numpy((curves["target_1"].numpy() + 9 * others) / 10)


def ends(values: list[float]) -> tuple[float, float]:
    """Median over the first and over the last steps."""
    return float(np.median(values[1 : WINDOW + 1])), float(np.median(values[-WINDOW:]))


def measured(store: Store) -> dict[str, Any]:
    """Interval over the seeds of each number that a phenomenon is judged by."""
    runs = {(t, n): [store.get(f"{t}/{s}/{n}") for s in range(SEEDS)] for t in TASKS for n in LOSSES}
    found: dict[str, Any] = {}
    for name in LOSSES:
        plain, noisy = runs["digits", name], runs["digits-noisy", name]
        found[name] = {
            "schedule: implied rate, last over first": [_ratio(ends(run["implied_rate"])) for run in plain],
            "schedule: gradient norm, last over first": [_ratio(ends(run["gradient_norm"])) for run in plain],
            "early stopping: test loss, last over least": [r["test_loss"][-1] / min(r["test_loss"]) for r in noisy],
            "early stopping: test error, last minus least": [r["test_error"][-1] - min(r["test_error"]) for r in noisy],
            "label smoothing: mean top probability": [run["confidence"] for run in noisy],
        }
        if name == "adalfl":
            found[name]["label smoothing: the loss is least at p"] = [
                float(np.argmin(run["curves"][-1][1])) / (len(run["curves"][-1][1]) - 1) for run in noisy
            ]
    return {name: {what: interval(values) for what, values in rows.items()} for name, rows in found.items()}


def _ratio(pair: tuple[float, float]) -> float:
    return pair[1] / pair[0]


def bars(found: dict[str, Any]) -> list[list[Any]]:
    """Each phenomenon, and whether it was seen."""
    ours, plain = ({w: i["mean"] for w, i in found[name].items()} for name in ("adalfl", "cross_entropy"))
    norm, stop = "schedule: gradient norm, last over first", "early stopping: test error, last minus least"
    least, sure = "label smoothing: the loss is least at p", "label smoothing: mean top probability"
    return [
        ["schedule: AdaLFL's gradient norm ends below half its start", ours[norm], ours[norm] < 0.5],
        ["schedule: it falls further than cross-entropy's", ours[norm] / plain[norm], ours[norm] < plain[norm]],
        ["early stopping: the test error rises less than cross-entropy's", ours[stop] - plain[stop],
         ours[stop] < plain[stop]],
        ["label smoothing: the learned loss is least below p = 0.99", ours[least], ours[least] < 0.99],
        ["label smoothing: the network is less sure than cross-entropy's", ours[sure] - plain[sure],
         ours[sure] < plain[sure]],
    ]  # fmt: skip


def figure(store: Store, which: str) -> None:
    """One PNG, of the first seed."""
    picture = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(picture)
    left, right = picture.subplots(1, 2)
    task = "digits" if which == "schedule" else "digits-noisy"
    runs = {name: store.get(f"{task}/0/{name}") for name in LOSSES}
    panels = {
        "schedule": (("implied_rate", "implied learning rate"), ("gradient_norm", "norm of the training gradient")),
        "early_stopping": (("test_loss", "cross-entropy on test rows"), ("test_error", "test error, %")),
    }
    for ax, (what, title) in zip((left, right), panels.get(which, ()), strict=False):
        for name, run in runs.items():
            values, apart = np.asarray(run[what]), EVERY
            if which == "schedule":
                values, apart = np.convolve(values, np.ones(25) / 25, "valid"), 1
            steps = np.arange(1, len(values) + 1) * apart
            ax.plot(steps, values, color=COLOURS[name], linewidth=1.1, label=name)
        ax.set(title=title, xlabel="optimiser step")
        ax.legend(fontsize=8)
        if what == "gradient_norm":
            ax.set_yscale("log")
    if which == "label_smoothing":
        curves = runs["adalfl"]["curves"]
        for place, (step, values) in enumerate(curves):
            values = np.asarray(values) - min(values)
            p = np.linspace(0, 1, len(values))
            shade = 0.15 + 0.85 * (place + 1) / len(curves)
            label = f"step {step}" if place in (0, len(curves) - 1) else None
            left.plot(p, values / max(values.max(), 1e-12), color=COLOURS["adalfl"], alpha=shade, label=label)
        left.set(title="the learned loss, each from 0 to 1", xlabel="probability of the true class")
        left.legend(fontsize=8)
        last = np.asarray(curves[-1][1])
        right.plot(p[p >= 0.5], (last - last.min())[p >= 0.5], color=COLOURS["adalfl"])
        right.axvline(p[last.argmin()], color="#999999", linewidth=0.8)
        right.set(title=f"the last one: least at {p[last.argmin()]:.2f}", xlabel="probability of the true class")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    picture.savefig(RESULTS / f"adalfl_{which}.png", dpi=90)


def main() -> None:
    """Run what is missing, draw, write the JSON."""
    arguments(__doc__)
    store = Store("phenomena", SEEDS)
    for seed in track(range(SEEDS), "phenomena"):
        for task in TASKS:
            for name in LOSSES:
                key = f"{task}/{seed}/{name}"
                if store.get(key) is None:
                    store.add(key, train_one(task, name, seed))
    for which in ("schedule", "early_stopping", "label_smoothing"):
        figure(store, which)
    found = measured(store)
    store.finish(steps=STEPS, offline_rounds=OFFLINE, rate=RATE, measured=found, bars=bars(found))
    for name, rows in found.items():
        for what, value in rows.items():
            print(f"{name:14} {what:48} {value['mean']:.4g}")


if __name__ == "__main__":
    main()
