"""Time and memory of a training step with LookAhead, in multiples of a plain step, on an MLP and a CNN at batch 128.

Median of 50 paired steps: every step of a cell is timed beside a plain step of the same model with the same loss.
Beside it stand unrolling by torch.func, by higher and by TorchOpt (where they are installed), whose own step is the
step; "agrees" is how far their hypergradient is from ours, relative to its size.
Numbers too small for float32's normal form, which Adam's moments come to on noise, count as zero on both sides.
Memory is the most that tensors took at once in three steps, parameters and batches included. The optimiser is SGD with
momentum; in the row that says so AdamW, beside a plain step of AdamW. The row of ALA is beside a step of cross-entropy:
its policy looks at 500 validation rows every 50 steps.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import metricgrad as mg
from common import Store, arguments, in_process
from look_ahead_peers import MOMENTUM, PEERS, RATE, installed, peer_step
from metricgrad.aligners.lookahead.unrolled import unrolled
from metricgrad.losses.base import CallContext
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.networks.neural import NeuralLoss

MODELS = ("mlp", "cnn")
OPTIONS: dict[str, dict[str, Any]] = {  # of AdaLFL; and the validation batch's size, where it is not the training one's
    "look_ahead": {}, "one_sided": {"exact": False}, "valid_32": {"size": 32}, "every_2": {"every": 2},
    "every_4": {"every": 4}, "valid_32_every_2": {"size": 32, "every": 2},
    "one_sided_every_2": {"exact": False, "every": 2}, "look_ahead_adamw": {},
}  # fmt: skip
OF = {"plain": "a plain step", "plain_adamw": "a plain step", "cross_entropy": "cross-entropy"}
CELLS = ("cross_entropy", *OPTIONS, "ala", "unrolled", *PEERS)
STEPS = 50
WARM_UP = 5
BATCH = 128
ALA = {"period": 50, "valid": 500}  # optimiser steps from one look of the policy to the next, and rows it looks at


def model_of(name: str) -> nn.Module:
    """784-300-100-10, or two convolutions with batch norm."""
    torch.manual_seed(0)
    if name == "mlp":
        widths = ((784, 300), (300, 100))
        hidden = [layer for a, b in widths for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Noise in the shape of MNIST."""
    return torch.randn(size, 1, 28, 28), torch.randint(10, (size,))


def step_of(model_name: str, cell: str, size: int = BATCH) -> Callable[[], Any]:
    """One training step of a fresh setting."""
    model = model_of(model_name)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    if cell.endswith("adamw"):
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    inputs, targets = batch(size)
    options = dict(OPTIONS.get(cell, {}))
    valid = batch(min(size, options.pop("size", size)))
    if cell in PEERS:
        return peer_step(cell, model, NeuralLoss(10), (inputs, targets), valid)
    if cell == "cross_entropy":
        loss: nn.Module = CrossEntropy()
    elif cell == "ala":
        loss = mg.ALA("accuracy", num_outputs=10, every=ALA["period"])
        loss.attach(model, optimizer, valid=[batch(ALA["valid"] if size == BATCH else size)])
    elif cell in ("plain", "plain_adamw", "unrolled"):
        loss = mg.Loss(NeuralLoss(10))
    else:
        loss = mg.AdaLFL(10, anchored=False, **options)
        loss.attach(model, optimizer, valid=[valid])

    def step() -> None:
        if cell == "unrolled":  # the double backward a user would write with torch.func, and the step itself
            assert isinstance(loss, mg.Loss)
            pair: Any = lambda m, b: (m(b[0]), b[1])  # noqa: E731
            unrolled(
                loss.form, model, optimizer, [(inputs, targets)], valid, CrossEntropy(), pair, CallContext(0, 0, False)
            )
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()

    return step


def timed(model: str, cell: str) -> dict[str, float]:
    """Ratio of the paired times; a cell that acts on every second or fourth step is averaged over so many."""
    torch.set_flush_denormal(True)
    plain, ours = step_of(model, plain_of(cell)), step_of(model, cell)
    length = ALA["period"] if cell == "ala" else OPTIONS.get(cell, {}).get("every", 1)
    ratios, milliseconds = [], []
    for number in range(WARM_UP + (STEPS if length < STEPS else STEPS // 5)):
        spent = [0.0, 0.0]
        for _ in range(length):
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                (plain, ours)[which]()
                spent[which] += time.process_time() - start
        if number >= WARM_UP:
            ratios.append(spent[1] / spent[0])
            milliseconds.append(1e3 * spent[0] / length)
    quartiles = statistics.quantiles(ratios, n=4)
    return {"time": statistics.median(ratios), "time_low": quartiles[0], "time_high": quartiles[2],
            "plain_ms": statistics.median(milliseconds)}  # fmt: skip


def plain_of(cell: str) -> str:
    """What a cell is compared with."""
    if cell == "ala":
        return "cross_entropy"
    return "plain_adamw" if cell.endswith("adamw") else "plain"


def peak(model: str, cell: str) -> float:
    """Megabytes of tensors at the worst moment of three steps."""
    step_of(model, cell, 2)()  # what is made at the first use of an operation is not the step's
    own = [*model_of(model).parameters(), *batch(BATCH), *batch(BATCH)]
    step = step_of(model, cell)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        for _ in range(3):
            step()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    taken = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return (max(taken) + sum(t.numel() * t.element_size() for t in own)) / 2**20


def agrees(model_name: str, peer: str) -> float:
    """How far a peer's hypergradient of the first step is from ours."""
    model, train, valid = model_of(model_name), batch(32), batch(32)
    loss = mg.AdaLFL(10, anchored=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    ours = loss.aligner.hypergradient(model, optimizer, train, valid)  # type: ignore[attr-defined]
    theirs = peer_step(peer, model, NeuralLoss(10), train, valid)()
    a, b = (torch.cat([g.flatten() for g in some]) for some in (ours, theirs))
    return float((a - b).norm() / a.norm())


def main() -> None:
    """Run what is missing, write the JSON."""
    if "--cell" in sys.argv:
        what, model, cell = sys.argv[sys.argv.index("--cell") + 1 :]
        print(json.dumps({"time": timed, "memory": peak, "agrees": agrees}[what](model, cell)))
        return
    arguments(__doc__)
    store = Store("look_ahead_cost", 1)
    table: dict[str, dict[str, float]] = {}
    absent = [peer for peer in PEERS if not installed(peer)]
    for model in MODELS:
        for cell in track([cell for cell in CELLS if cell not in absent], f"cost of a step, {model}"):
            if (model, cell) == ("cnn", "look_ahead_adamw"):  # its steps soon vanish on noise: half cost nothing
                continue
            key = f"{model}/{cell}"
            found = store.get(key) or store.add(key, in_process(__file__, "time", model, cell))
            table[key] = dict(found)
            if cell in PEERS:
                name = f"{key}/agrees"
                gap = store.get(name)
                table[key]["agrees"] = (
                    store.add(name, in_process(__file__, "agrees", model, cell)) if gap is None else gap
                )
            megabytes = [
                store.get(f"{model}/{c}/mb") or store.add(f"{model}/{c}/mb", in_process(__file__, "memory", model, c))
                for c in (plain_of(cell), cell)
            ]
            table[key] |= {"memory": megabytes[1] / megabytes[0], "plain_mb": megabytes[0]}
    bars = [
        [f"{model}, {cell}: {what} at most {bar} of {OF[plain_of(cell)]}'s", table[f"{model}/{cell}"][what],
         table[f"{model}/{cell}"][what] <= bar]
        for model in MODELS
        for cell, what, bar in (("look_ahead", "time", 2.5), ("look_ahead", "memory", 1.6),
                                ("look_ahead_adamw", "time", 3.2), ("look_ahead_adamw", "memory", 1.6),
                                ("ala", "time", 1.5))
        if f"{model}/{cell}" in table
    ]  # fmt: skip
    store.finish(absent=absent, cells=table, bars=bars)
    for name, row in table.items():
        print(f"{name:22} time {row['time']:.2f} [{row['time_low']:.2f}, {row['time_high']:.2f}]  "
              f"memory {row.get('memory', math.nan):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
