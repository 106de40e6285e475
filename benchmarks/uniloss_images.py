"""UniLoss's accuracy with ResNet-20 on CIFAR-10, CIFAR-100 or Fashion-MNIST, epoch by epoch.

    python benchmarks/uniloss_images.py --source fashion --epochs 3 --bfloat16
    python benchmarks/uniloss_images.py --source FOLDER --classes 100 --device cuda

The paper's recipe: SGD at 0.1 with momentum 0.9 and weight decay 1e-4, batches of 128, crops and flips, the rate
divided by ten after 70 % and 80 % of the steps (of 200 epochs), a tenth of the training part for validation; of 100
classes the best fifth of each row's comparisons. An epoch that is done is kept: after --limit seconds, or a kill, a
further call goes on. Every loss tries --rates with the first seed, and their neighbours while the best on validation is
at an edge; the other seeds train at the one that was best. No network is reached unless --source is "hub".
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import common
import metricgrad as mg
from cifar import Part, parts_of, read_images
from common import Store, interval, paired
from paper_tables import OfProbabilities
from tasks.cifar.model import resnet20
from tuning import GRID, OutOfTimeError, chosen


def losses(classes: int) -> dict[str, Callable[[int], nn.Module]]:
    """Row to ``seed -> loss``."""
    share = 0.2 if classes >= 100 else 1.0

    def paper(seed: int, **options: Any) -> mg.UniLoss:
        return mg.UniLoss("accuracy", share=share, seed=seed, **{"paper": True, **options})

    return {
        "cross_entropy": lambda seed: nn.CrossEntropyLoss(),
        "uniloss_paper": paper,
        "uniloss_paper_sigmoid": lambda seed: OfProbabilities(paper(seed)),
        "uniloss_sign_error": lambda seed: paper(seed, paper="released", gradient="released"),
        "uniloss": lambda seed: mg.UniLoss("accuracy", seed=seed),
    }


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--source", required=True, help="a folder in a layout of tasks.cifar.data, 'fashion', or 'hub'")
    add("--classes", type=int, default=10)
    add("--losses", nargs="+", choices=losses(10), default=["cross_entropy", "uniloss_paper", "uniloss"])
    add("--rates", nargs="+", type=float, choices=GRID, default=[0.03, 0.1, 0.3], help="that every loss tries first")
    add("--epochs", type=int, default=200)
    add("--batch", type=int, default=128)
    add("--seeds", type=int, default=4)
    add("--limit", type=float, default=float("inf"), help="seconds after which no epoch is begun")
    add("--bfloat16", action="store_true", help="train the network in bfloat16 under autocast, the loss in float32")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parsed = parser.parse_args(words)
    parsed.choose = False  # cifar.parts_of: the scored rows are the test part
    return parsed


class Run:
    """One training, kept after every epoch.

    Args:
        o: the command line.
        row: of :func:`losses`.
        rate: learning rate.
        data: training and test part.
        seed: of weights, batches and the cut.
        path: of what is kept.
    """

    def __init__(self, o: argparse.Namespace, row: str, rate: float, data: tuple[Part, Part], seed: int, path: Path):
        self.train, self.valid, _, self.test = parts_of(o, *data, seed)
        torch.manual_seed(seed)
        self.model = resnet20(o.classes).to(o.device, memory_format=torch.channels_last)  # a fifth less time on a CPU
        self.autocast = torch.autocast(torch.device(o.device).type, torch.bfloat16, enabled=o.bfloat16)
        self.loss = losses(o.classes)[row](seed).to(o.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
        drops = [round(share * o.epochs * self.steps) for share in (0.7, 0.8)]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, drops)
        if isinstance(self.loss, mg.Loss):
            self.loss.attach(self.model, self.optimizer, total_steps=o.epochs * self.steps)
        self.path, self.errors = path, []
        if path.exists():
            kept = torch.load(path, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(kept[name])
            self.errors = kept["errors"]
            self.train.generator.set_state(kept["draws"])

    @property
    def steps(self) -> int:
        """In an epoch."""
        return max(1, len(self.train.targets) // self.train.batch)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "loss": self.loss, "optimizer": self.optimizer, "schedule": self.schedule}

    def epoch(self) -> None:
        """Train one, score the validation part, and keep all that the next one needs."""
        self.model.train()
        for inputs, targets in self.train:
            self.optimizer.zero_grad()
            with self.autocast:
                scores = self.model(inputs)
            self.loss(scores.float(), targets).backward()
            self.optimizer.step()
            self.schedule.step()
        self.errors.append(self.valid.error(self.model))
        kept = {name: part.state_dict() for name, part in self._parts().items()}
        kept |= {"errors": self.errors, "draws": self.train.generator.get_state()}
        torch.save(kept, self.path.with_suffix(".new"))
        os.replace(self.path.with_suffix(".new"), self.path)


def trained(o: argparse.Namespace, key: str, run: Callable[[], Run], store: Store, end: float) -> dict[str, Any]:
    """Validation errors and the test error of a finished run.

    Raises:
        OutOfTimeError: where there is no time for the rest of it.
    """
    if store.get(key) is not None:
        return store.get(key)
    made = run()
    while len(made.errors) < o.epochs:
        if time.monotonic() > end:
            raise OutOfTimeError
        made.epoch()
        print(f"{key:60} epoch {len(made.errors)} of {o.epochs}, validation error {made.errors[-1]:.2f} %", flush=True)
    return store.add(key, {"valid": made.errors, "test": made.test.error(made.model)})


def errors(o: argparse.Namespace, row: str, run: Callable[[str, float, int], dict[str, Any]]) -> dict[str, Any]:
    """One loss: its rate, chosen with the first seed, and what all seeds reach at it."""
    tried: dict[float, float] = {}

    def valid(rates: list[float]) -> list[float]:
        tried.update({rate: run(row, rate, 0)["valid"][-1] for rate in rates})
        return [-tried[rate] for rate in rates]

    best = chosen(valid, o.rates)
    runs = [run(row, best, seed) for seed in range(o.seeds)]
    found = {
        "rate": best, "rates": {f"{rate:g}": tried[rate] for rate in sorted(tried)},
        "curves": [run["valid"] for run in runs], "ends": [run["test"] for run in runs],
    }  # fmt: skip
    return found | interval(found["ends"])


def main(words: list[str] | None = None) -> None:
    """Train what is missing as far as the time goes, write the JSON."""
    o = options(words)
    data, store, end = read_images(o.source, o.classes), Store("uniloss_images", o.seeds), time.monotonic() + o.limit
    what = "fashion" if o.source == "fashion" else f"cifar{o.classes}"
    budget = f"{o.epochs} epochs" + ", bfloat16" * o.bfloat16

    def run(row: str, rate: float, seed: int) -> dict[str, Any]:
        key = f"{what}/{budget}/{row}/{rate:g}/{seed}"
        return trained(o, key, lambda: Run(o, row, rate, data, seed, kept_at(key)), store, end)

    table: dict[str, Any] = {}
    for row in o.losses:
        with contextlib.suppress(OutOfTimeError):
            found = table[f"{what}/{row}"] = errors(o, row, run)
            print(f"{what}/{row:30} rate {found['rate']:g}, test error {found['mean']:.2f} %", flush=True)
    base = table.get(f"{what}/cross_entropy")
    for found in table.values() if base else ():
        found["minus cross-entropy"] = paired(found["ends"], base["ends"])
    settings = {name: value for name, value in vars(o).items() if name not in ("source", "device", "limit")}
    words = f"--source {what if what == 'fashion' else 'FOLDER'} --epochs {o.epochs}" + " --bfloat16" * o.bfloat16
    command = f"python benchmarks/uniloss_images.py {words}"
    store.finish(command=command, settings=settings, device=str(torch.device(o.device)), errors=table)


def kept_at(key: str) -> Path:
    """Where a run that is under way is kept."""
    folder = common.HERE / "runs" / "uniloss_images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key.replace('/', ' ')}.pt"


if __name__ == "__main__":
    main()
