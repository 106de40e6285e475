"""AdaLFL where it should pay: a training part that is wrong, thin or elsewhere, and 200 validation rows that are not.

Digits and MNIST (4,000 rows of the 5,000 that are drawn, the official test part), SGD without momentum, an MLP. 40 % of
the training labels are wrong (replaced by any digit, or by the next one), or digit c has 50 ** (-c / 9) times the rows
of digit 0, or the training images are moved by an eighth of their width, or nothing is wrong; the 200 validation rows
are clean, in place, and 20 of each digit. MNIST with wrong labels and with none is run with momentum and with AdamW
too. Test accuracy in percent.

What learns from validation rows meets all that the others may have: they train on both parts together. Each loss
chooses its learning rate and when to stop, jointly, on two draws that are no seeds: one half of their validation rows
is what it learns from, the other half chooses. The rates begin with three, and go on for as long as the best of them is
at an edge. Each seed trains with all 200 rows up to the chosen stop, and its test part is scored there, once.
Beside these: cross-entropy at the rate 0.01, which the authors of AdaLFL did not tune, for all the steps. One loss runs
on every setting, then the next.

A run takes a fraction of a second, or three for what looks ahead; after --limit seconds no further loss is begun, and
the next call goes on. Settings that --only leaves out stay as they were written last.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.func import functional_call, jvp

import metricgrad as mg
from adalfl_settings import Parts, batches, settings
from common import BalancedCrossEntropy, Store, arguments, interval, paired
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.functional.interpolation import power_loss
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.tasks.split import Part
from report_text import estimate

SEEDS = 8
CLASSES, EACH, BATCH, CLEAN_BATCH = 10, 20, 64, 50
AT = (100, 200, 400)  # when a training may stop
RATES = (3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FIRST_RATES = slice(4, 7)
DRAWS = (100, 101)
UNTUNED = 0.01
WRONG, IMBALANCE, MOVED = 0.4, 50, 8
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


class GeneralisedCrossEntropy(nn.Module):
    """(1 - p^q) / q at q = 0.7, the value of its paper."""

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        quality = scores.softmax(1).gather(1, targets[:, None])
        return power_loss(quality, 0.7).mean() / 0.7


LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "cross-entropy": lambda seed: nn.CrossEntropyLoss(),
    "cross-entropy on both": lambda seed: nn.CrossEntropyLoss(),
    "balanced cross-entropy on both": lambda seed: BalancedCrossEntropy(),
    "generalised cross-entropy on both": lambda seed: GeneralisedCrossEntropy(),
    "cross-entropy of reweighted rows": lambda seed: nn.CrossEntropyLoss(),
    "AdaLFL": lambda seed: mg.AdaLFL(num_outputs=CLASSES, seed=seed),
    "learned rate": lambda seed: mg.Loss(LearnedRate("cross_entropy"), LookAhead(lr=1e-2, seed=seed)),
    "AdaLFL(residual=True)": lambda seed: mg.AdaLFL(num_outputs=CLASSES, residual=True, seed=seed),
}
OURS, USUAL, BESIDE = "AdaLFL", "cross-entropy on both", "cross-entropy at 0.01, untuned"
ROWS = (BESIDE, *LOSSES)


@dataclass(frozen=True)
class Regime:
    """One data set, and what is done to its training part.

    Attributes:
        load: seed to clean parts.
        spoil: training part and seed to what is trained on.
        overlap: of the test parts of two seeds, in items for each training item.
        optimizer: of parameters and a rate.
    """

    load: Callable[[int], Parts]
    model: Callable[[], nn.Module]
    spoil: Callable[[Part, int], Part]
    overlap: float
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD

    def parts(self, seed: int) -> Parts:
        """Spoiled training part, 20 clean rows of each class in an order of halves that are balanced too, test part."""
        train, valid, test = self.load(seed)
        rows = [(valid[1] == digit).nonzero()[:, 0][:EACH] for digit in range(CLASSES)]
        halves = [torch.cat([some[half] for some in rows]) for half in (slice(EACH // 2), slice(EACH // 2, None))]
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.cat([half[torch.randperm(len(half), generator=generator)] for half in halves])
        return self.spoil(train, seed), (valid[0][chosen], valid[1][chosen]), test


def any_label(part: Part, seed: int) -> Part:
    """40 % of the labels are drawn anew, a tenth of them by luck what they were."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(part[1]), generator=generator) < WRONG
    return part[0], torch.where(wrong, torch.randint(CLASSES, (len(part[1]),), generator=generator), part[1])


def next_label(part: Part, seed: int) -> Part:
    """40 % of the labels are the next digit's."""
    wrong = torch.rand(len(part[1]), generator=torch.Generator().manual_seed(seed)) < WRONG
    return part[0], torch.where(wrong, (part[1] + 1) % CLASSES, part[1])


def few_of_some(part: Part, seed: int) -> Part:
    """A fiftieth of the nines, and of the others as much more as they come earlier."""
    rows = [(part[1] == digit).nonzero()[:, 0] for digit in range(CLASSES)]
    kept = torch.cat([some[: round(len(some) * IMBALANCE ** (-digit / 9))] for digit, some in enumerate(rows)])
    return part[0][kept], part[1][kept]


def moved(part: Part, seed: int) -> Part:
    """Every image is an eighth of its width further right and down."""
    images = part[0].view(len(part[0]), math.isqrt(part[0][0].numel()), -1)
    by = images.shape[1] // MOVED
    return images.roll((by, by), (1, 2)).view_as(part[0]), part[1]


SPOILT = {
    "noise": any_label, "pairs": next_label, "imbalance": few_of_some, "shift": moved, "clean": lambda part, seed: part,
}  # fmt: skip
NAMES = [f"{data}-{how}" for data in ("digits", "mnist") for how in SPOILT]
NAMES += [f"mnist-{how}-{optimizer}" for how in ("noise", "clean") for optimizer in ("momentum", "adamw")]


def regimes(data: Path) -> dict[str, Regime]:
    """All of them; ``data`` is the folder with mnist20k.npz."""
    known, found = settings(data), {}
    for name in NAMES:
        source, how, *optimizer = name.split("-")
        setting = known[source]
        found[name] = Regime(
            setting.load, setting.model, SPOILT[how], setting.overlap, OPTIMIZERS[(*optimizer, "sgd")[0]]
        )
    return found


def row_weights(model: nn.Module, inputs: Tensor, targets: Tensor, clean: Part) -> Tensor:
    """How much a step on each row's cross-entropy lowers that of clean rows, at least 0, the sum 1.

    References: M. Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018, Algorithm 1.
    """
    parameters = dict(model.named_parameters())
    objective = nn.functional.cross_entropy(model(clean[0]), clean[1])
    slopes = dict(zip(parameters, torch.autograd.grad(objective, list(parameters.values())), strict=True))
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    scores, moved = jvp(lambda given: functional_call(model, given, (inputs,)), (values,), (slopes,))
    residuals = scores.softmax(1) - nn.functional.one_hot(targets, CLASSES)
    gains = (residuals * moved).sum(1).clamp(min=0)
    return gains / gains.sum().clamp(min=1e-12)


def train(regime: Regime, name: str, lr: float, parts: Parts, seed: int, steps: int, score: Part) -> list[float]:
    """Accuracy in percent on the part ``score``, at each of ``AT`` up to the last of ``steps``."""
    loss = LOSSES[name](seed)
    (inputs, targets), clean, _ = parts
    if name.endswith("on both"):
        inputs, targets = torch.cat([inputs, clean[0]]), torch.cat([targets, clean[1]])
    torch.manual_seed(seed)
    model = regime.model()
    optimizer = regime.optimizer(model.parameters(), lr=lr)
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, valid=batches(clean, CLEAN_BATCH))
    generator, found = torch.Generator().manual_seed(seed), []
    for step in range(1, steps + 1):
        rows = torch.randint(len(targets), (BATCH,), generator=generator)
        x, y = inputs[rows], targets[rows]
        optimizer.zero_grad()
        if name.endswith("reweighted rows"):
            some = torch.randint(len(clean[1]), (CLEAN_BATCH,), generator=generator)
            weights = row_weights(model, x, y, (clean[0][some], clean[1][some]))
            (nn.functional.cross_entropy(model(x), y, reduction="none") * weights).sum().backward()
        else:
            loss(model(x), y).backward()
        optimizer.step()
        if step in AT or step == steps:
            found.append(accuracy(model, score))
    return found


def accuracy(model: nn.Module, part: Part) -> float:
    """In percent."""
    with torch.no_grad():
        return 100 * float((model(part[0]).argmax(1) == part[1]).float().mean())


def tuned(store: Store, name: str, regime: Regime, loss: str) -> dict[str, Any]:
    """The rate and the stop that are best over the draws, on rows the training has not seen."""

    def tried(lr: float) -> list[float]:
        reached = []
        for draw in DRAWS:
            key = f"{name}/draw {draw}/{loss}/{lr}"
            if store.get(key) is None:
                train_part, valid, test = regime.parts(draw)
                half = len(valid[1]) // 2
                seen, chooses = ((valid[0][s], valid[1][s]) for s in (slice(half), slice(half, None)))
                store.add(key, train(regime, loss, lr, (train_part, seen, test), draw, AT[-1], chooses))
            reached.append(store.get(key))
        return [sum(at) / len(DRAWS) for at in zip(*reached, strict=True)]

    found = {lr: tried(lr) for lr in RATES[FIRST_RATES]}
    while True:
        best = max(found, key=lambda lr: max(found[lr]))
        place = RATES.index(best)
        beyond = [RATES[i] for i in (place - 1, place + 1) if 0 <= i < len(RATES) and RATES[i] not in found]
        if not beyond:
            break
        found |= {lr: tried(lr) for lr in beyond}
    stop = AT[found[best].index(max(found[best]))]
    return {"lr": best, "stop": stop, "chose": max(found[best]), "edge": place in (0, len(RATES) - 1)}


def one_loss(store: Store, name: str, regime: Regime, loss: str) -> None:
    """Every seed of a loss as it was tuned, or of cross-entropy as it was not."""
    settled = chosen(store, name, regime, loss)
    for seed in track(range(SEEDS), f"{name}, {loss}"):
        key = f"{name}/{seed}/{loss}"
        if store.get(key) is None:
            parts = regime.parts(seed)
            form = "cross-entropy" if loss == BESIDE else loss
            store.add(key, train(regime, form, settled["lr"], parts, seed, settled["stop"], parts[2])[-1])


def chosen(store: Store, name: str, regime: Regime, loss: str) -> dict[str, Any]:
    """Rate, stop, and what they reached on the rows that chose them."""
    if loss == BESIDE:
        return {"lr": UNTUNED, "stop": AT[-1], "chose": None, "edge": False}
    return tuned(store, name, regime, loss)


def done(store: Store, name: str, loss: str) -> list[float]:
    """The accuracy of each seed, up to the first that is missing."""
    values = (store.get(f"{name}/{seed}/{loss}") for seed in range(SEEDS))
    return list(itertools.takewhile(lambda value: value is not None, values))


def summary(store: Store, name: str, regime: Regime) -> dict[str, Any]:
    """Mean accuracy by loss, AdaLFL minus it and it minus cross-entropy on both parts, what was chosen."""
    reached = {loss: values for loss in ROWS if (values := done(store, name, loss))}

    def gap(loss: str, other: str) -> dict[str, Any] | None:
        if loss not in reached or other not in reached:
            return None
        count = min(len(reached[loss]), len(reached[other]))
        return paired(reached[loss][:count], reached[other][:count], regime.overlap)

    return {
        loss: {
            "accuracy": interval(values, regime.overlap),
            "adalfl_minus_it": gap(OURS, loss),
            "minus_usual": gap(loss, USUAL),
            **chosen(store, name, regime, loss),
        }
        for loss, values in reached.items()
    }


def main() -> None:
    """Run what is missing, write the JSON."""
    options = arguments(__doc__, NAMES, limit=3600)
    store, known = Store("clean_validation", SEEDS), regimes(options.data)
    begun = time.monotonic()
    for loss, name in itertools.product(ROWS, options.only):
        if len(done(store, name, loss)) < SEEDS and time.monotonic() - begun < options.limit:
            one_loss(store, name, known[name], loss)
    tables = store.kept("tables") | {name: summary(store, name, known[name]) for name in options.only}
    tables = {name: tables[name] for name in NAMES if tables.get(name)}
    store.finish(stops=AT, tables=tables)
    for name, rows in tables.items():
        for row, found in rows.items():
            gap = estimate(found["adalfl_minus_it"], "+.2f")
            print(f"{name:16} {row:36} lr {found['lr']:<6} stop {found['stop']:4} "
                  f"{found['accuracy']['mean']:6.2f}   AdaLFL minus it {gap}")  # fmt: skip


if __name__ == "__main__":
    main()
