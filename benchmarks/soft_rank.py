"""Forward and backward of mg.functional.soft_rank beside torchsort's compiled one, where installed, and beside a loop.

Times are processor time of one thread, the median of repeats that take turns in one process. torchsort gets
standardised scores and the same strength, with and without the time that standardising takes. The loop is
pool-adjacent-violators over a Python list, the fastest way to write it without a compiler; both times of its rows are
those of the blocks alone. Memory is NumPy's peak, as tracemalloc
sees it.
"""

from __future__ import annotations

import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

import metricgrad as mg
from common import Store, arguments
from metricgrad.functional.isotonic import mean_starts

try:
    import torchsort
except ImportError:
    torchsort = None

SIZES = (128, 1024, 4096, 16384)
STRENGTHS = (0.1, 1.0, 5.0)
BATCHES = ((64, 128), (64, 1024), (16, 4096))
MEMORY = (16384, 65536, 262144)
REPEATS = 41
N = 16384


def loop(values: list[float]) -> list[float]:
    """The levels of the blocks of a non-decreasing fit, by pool-adjacent-violators."""
    sums: list[float] = []
    counts: list[int] = []
    for value in values:
        total, count = value, 1
        while sums and sums[-1] / counts[-1] > total / count:
            total += sums.pop()
            count += counts.pop()
        sums.append(total)
        counts.append(count)
    return [s / c for s, c in zip(sums, counts, strict=True)]


def kappa(n: int) -> float:
    """The spread of n ranks."""
    return math.sqrt((n * n - 1) / 12)


def standardised(x: Tensor) -> Tensor:
    """Mean 0, deviation 1 along the last axis."""
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)


def step(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Milliseconds of a forward and a backward pass."""
    x.grad = None
    start = time.process_time()
    function(x).square().sum().backward()
    return 1e3 * (time.process_time() - start)


def beside_torchsort(shape: tuple[int, ...], strength: float) -> dict[str, float]:
    """Medians in milliseconds, and how far the ranks of the two are apart."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))
    scale = strength / kappa(shape[-1])
    functions = {"ours": lambda v: mg.functional.soft_rank(v, strength)}
    if torchsort is not None:
        functions["torchsort"] = lambda v: torchsort.soft_rank(v, regularization_strength=scale)
        functions["torchsort_standardised"] = lambda v: torchsort.soft_rank(
            standardised(v), regularization_strength=scale
        )
    matrix = standardised(x.double()).float().reshape(-1, shape[-1])
    inputs = {name: (x if name == "ours" else matrix).clone().requires_grad_() for name in functions}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(REPEATS + 5):
        for name, function in functions.items():
            spent = step(function, inputs[name])
            if turn >= 5:
                times[name].append(spent)
    out = {name: statistics.median(spent) for name, spent in times.items()}
    if torchsort is not None:
        theirs = torchsort.soft_rank(standardised(x.double()).reshape(matrix.shape), regularization_strength=scale)
        theirs = theirs.reshape(shape)
        out["difference"] = float((mg.functional.soft_rank(x.double(), strength) - theirs).abs().max())
    return out


def hard_cases() -> dict[str, np.ndarray]:
    """Values whose blocks are awkward to find in rounds over all of them."""
    place, generator = np.arange(N, dtype=float), np.random.default_rng(0)
    return {
        "noise": generator.normal(size=N),
        "walk": generator.normal(size=N).cumsum(),
        "falling": -place,
        "one drop at the end": np.r_[place[:-1] * 0.01, -1e6],
        "drop in the middle": place % (N // 2),
        "teeth of 100": place % 100,
        "rising teeth of 64": place % 64 + 32 * (place // 64),
        "falling teeth of 70": place % 70 - 35 * (place // 70),
        "waves": 100 * np.sin(place / N * 600) + 0.01 * place,
        "rise with random drops": np.log1p(place) - 3 * (generator.random(N) < 0.01),
    }


def blocks(values: np.ndarray) -> dict[str, float]:
    """Milliseconds for the blocks alone."""
    items, times = values.tolist(), {"ours": [], "loop": []}
    for _ in range(9):
        for name, find in (("ours", lambda: mean_starts(values, N)), ("loop", lambda: loop(items))):
            start = time.process_time()
            find()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(spent) for name, spent in times.items()}


def peak(n: int) -> float:
    """Megabytes of NumPy at the most, in a step on n scores; torch holds n ranks and n gradients besides."""
    x = torch.randn(n, generator=torch.Generator().manual_seed(n)).requires_grad_()
    tracemalloc.start()
    step(mg.functional.soft_rank, x)
    found = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return found


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("soft_rank", 1)
    shapes = [(n,) for n in SIZES] + list(BATCHES)
    jobs: dict[str, tuple[str, Callable[[], Any]]] = {}
    for shape in shapes:
        for strength in STRENGTHS if len(shape) == 1 else (1.0,):
            name = f"{'x'.join(map(str, shape))} at {strength:g}"
            jobs[f"steps/{name}"] = (name, lambda shape=shape, strength=strength: beside_torchsort(shape, strength))
    for name, values in hard_cases().items():
        jobs[f"blocks/{name}"] = (name, lambda values=values: blocks(values))
    for n in MEMORY:
        jobs[f"megabytes/{n}"] = (str(n), lambda n=n: peak(n))
    results: dict[str, dict[str, Any]] = {"steps": {}, "blocks": {}, "megabytes": {}}
    for key, (name, run) in track(jobs.items(), "soft_rank"):
        results[key.split("/")[0]][name] = store.get(key) or store.add(key, run())
    store.finish(repeats=REPEATS, torchsort=torchsort is not None, **results)


if __name__ == "__main__":
    main()
