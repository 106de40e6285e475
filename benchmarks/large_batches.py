"""Time and memory of one loss of 8,192 rows, chunk by chunk, beside the whole batch at once.

The model has five layers of 512; the loss is UniLoss on average precision with 2 % positives. Time is processor time,
the median of paired repeats; memory the most that tensors took at once in
a step, beyond the parameters and the batch.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import metricgrad as mg
from common import Store, arguments

ROWS, SIZE, REPEATS = 8192, 128, 7


def step_of(rows: int, size: int | None) -> Callable[[], object]:
    """One forward and backward pass; in chunks of a size, or at once."""
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Linear(512, 512), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(512, 1), nn.Flatten(0))
    inputs, targets = torch.randn(rows, 512), torch.arange(rows) % 50 == 0
    loss = mg.UniLoss("average_precision")

    def step() -> object:
        model.zero_grad()
        if size is None:
            return loss(model(inputs), targets).backward()
        return mg.microbatched(loss, model, inputs, targets, size=size)

    return step


def loss_alone() -> object:
    """The loss of as many scores, which no chunk makes smaller."""
    scores = torch.randn(ROWS, requires_grad=True)
    return mg.UniLoss("average_precision")(scores, torch.arange(ROWS) % 50 == 0).backward()


def peak(step: Callable[[], object]) -> float:
    """Megabytes that a step takes at its worst moment, beyond what there was before."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    taken = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(taken) / 2**20


def main() -> None:
    """Measure, write the JSON."""
    arguments(__doc__)
    store = Store("large_batches", REPEATS)
    whole, parts = step_of(ROWS, None), step_of(ROWS, SIZE)
    seconds: dict[str, list[float]] = {"whole": [], "parts": []}
    for number in range(REPEATS + 1):
        for name, step in (("whole", whole), ("parts", parts)):
            start = time.process_time()
            step()
            if number:
                seconds[name].append(time.process_time() - start)
    ratios = [b / a for a, b in zip(seconds["whole"], seconds["parts"], strict=True)]
    memory = {"whole": peak(whole), "parts": peak(parts), "small": peak(step_of(SIZE, None)), "loss": peak(loss_alone)}
    ratio = statistics.median(ratios)
    store.finish(
        rows=ROWS, size=SIZE, milliseconds={name: 1e3 * statistics.median(of) for name, of in seconds.items()},
        ratio=ratio, low=min(ratios), high=max(ratios), megabytes=memory,
        bars=[
            [f"{ROWS:,} rows in chunks of {SIZE}: time at most 2.2 of the whole batch's", ratio, ratio <= 2.2],
            [f"{ROWS:,} rows in chunks of {SIZE}: MB, at most those of {SIZE} rows and of the loss of {ROWS:,} scores",
             memory["parts"], memory["parts"] <= memory["small"] + memory["loss"]],
        ],
    )  # fmt: skip
    print(f"time {ratio:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]", memory)


if __name__ == "__main__":
    main()
