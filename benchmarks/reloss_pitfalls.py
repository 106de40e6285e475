"""What goes wrong when a surrogate is fitted as published, and what mends it: each with the switch on and off.

Digits, ten classes. On is ``ReLoss.fit(..., paper=True)``, or the published formula where the trap is in a formula; off
is what the library does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import common
import metricgrad as mg
from metricgrad.functional import spearman
from metricgrad.losses.cross_entropy import CrossEntropy
from metricgrad.losses.network import NetworkForm
from metricgrad.losses.probability_network import ProbabilityNetwork
from metricgrad.losses.set_network import SetNetwork
from surrogates import SOURCES, blocks_of, correlation, fitted, recorded

SEEDS, SIGNS = 5, 20
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
STEPS = 256
SETTINGS: dict[str, dict[str, Any]] = {"on": {"paper": True, "steps": 60}, "off": {}}


def accuracy_after(loss: nn.Module, seed: int) -> dict[str, float]:
    """Test accuracy by AdamW at its validation-tuned rate, and by SGD at the rate that is usual for cross-entropy."""
    tuned = max(_trained(loss, functools.partial(torch.optim.AdamW, lr=rate), seed) for rate in RATES)
    usual = _trained(loss, functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9), seed)
    return {"tuned": tuned[1], "usual": usual[1]}


def _trained(loss: nn.Module, optimizer: Callable[..., torch.optim.Optimizer], seed: int) -> tuple[float, float]:
    """Accuracy on the second part and on the third, of a model trained on the first."""
    train, *judged = SOURCES["digits"].draw(seed)
    torch.manual_seed(seed)
    model = SOURCES["digits"].model()
    stepped = optimizer(model.parameters())
    for _ in range(STEPS):
        rows = torch.randint(len(train[1]), (64,))
        stepped.zero_grad()
        loss(model(train[0][rows]), train[1][rows]).backward()
        stepped.step()
    accuracy = mg.as_metric("accuracy")
    with torch.no_grad():
        valid, test = (float(accuracy(torch.nan_to_num(model(x)), y)) for x, y in judged)
    return valid, test


def curve(loss: mg.ReLoss) -> Tensor:
    """The form's own value, unscaled, for one row whose right answer has probability 0.001 to 0.999 of two."""
    p = torch.linspace(0.001, 0.999, 200)
    scores = torch.stack([p, 1 - p], -1).log()[:, None]
    assert isinstance(loss.form, NetworkForm)
    with torch.no_grad():
        return loss.form.over(scores, torch.zeros(200, 1, dtype=torch.long))


def penalty_and_labels(seed: int) -> dict[str, Any]:
    """Traps 1 and 2: the penalty on the batch's mean, and labels that are the model's own predictions."""
    found = recorded(SOURCES["digits"], seed)
    blocks, badness = blocks_of("accuracy", found.judge[-1:], seed)
    wide = blocks_of("accuracy", found.judge, seed)
    out: dict[str, Any] = {"cross-entropy": {
        "narrow": correlation(CrossEntropy(), blocks, badness), "wide": correlation(CrossEntropy(), *wide),
        **accuracy_after(CrossEntropy(), seed),
    }}  # fmt: skip
    for switch, options in SETTINGS.items():
        loss = fitted("accuracy", found.fit, seed=seed, **options)
        if switch == "on":  # matching the scale of cross-entropy's gradient is ours
            loss.form.get_buffer("scale").fill_(1.0)
        values = curve(loss)
        out[switch] = {
            "narrow": correlation(loss, blocks, badness), "wide": correlation(loss, *wide),
            "largest": float(values.max()), "falling": float((values.diff() <= 0).double().mean()),
            **accuracy_after(loss, seed),
        }  # fmt: skip
    return out


def signs(seed: int) -> dict[str, float]:
    """Trap 3: the correlation where a short fit with no restart settles, paper's network and the monotone one."""
    scores, targets = recorded(SOURCES["digits"], 0).fit
    out = {}
    for switch, form in (("on", ProbabilityNetwork(monotone=False, seed=seed)), ("off", ProbabilityNetwork(seed=seed))):
        try:
            loss = fitted("accuracy", (scores, targets), seed=seed, form=form, steps=20, restarts=0)
            out[switch] = float(loss.report()["correlation"]["value"])
        except mg.MetricgradError:  # no positive correlation was found
            out[switch] = -1.0
    return out


def scales() -> dict[str, dict[str, float]]:
    """Trap 4: the share of losses that have a gradient at all, ranks of the raw values and of standardised ones."""
    g = torch.Generator().manual_seed(0)
    metric = torch.randn(64, generator=g, dtype=torch.float64)
    losses = metric + torch.randn(64, generator=g, dtype=torch.float64)
    spread = float(losses.std())
    out: dict[str, dict[str, float]] = {"on": {}, "off": {}}
    for factor in (0.01, 1.0, 100.0):
        # ours standardises: a strength in units of the spread undoes that, as if the raw values were projected
        for switch, strength in (("on", 1 / (factor * spread)), ("off", 1.0)):
            x = (losses * factor).requires_grad_()
            spearman(x, metric, soft=strength).backward()
            assert x.grad is not None
            slopes = x.grad * factor
            out[switch][f"{factor:g}"] = float((slopes.abs() > 1e-9).double().mean())
    return out


def sorting(count: int = 2000) -> dict[str, float]:
    """Trap 5: the share of draws of four scores where a larger score makes a sorted value smaller."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(count, 4, generator=g, dtype=torch.float64)
    swaps = {"on": lambda d: torch.sigmoid(5.0 * d), "off": lambda d: 0.5 + torch.atan(5.0 * d) / torch.pi}

    def network(rows: Tensor, share: Callable[[Tensor], Tensor]) -> Tensor:
        values = list(rows.unbind(-1))
        for layer in range(4):
            for i in range(layer % 2, 3, 2):
                a, b = values[i], values[i + 1]
                first = share(b - a)
                values[i], values[i + 1] = first * a + (1 - first) * b, (1 - first) * a + first * b
        return torch.stack(values, -1)

    out = {}
    for switch, share in swaps.items():
        slopes = torch.func.vmap(torch.func.jacrev(functools.partial(network, share=share)))(x)
        out[switch] = float((slopes < -1e-9).any(-1).any(-1).double().mean())
    return out


def sets(seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Trap 6: a mean over rows against a network of the set, for metrics of sets."""
    found = recorded(SOURCES["digit 8"], seed)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for metric in ("f1", "average_precision", "auroc"):
        out[metric] = {}
        for switch, form in (("on", ProbabilityNetwork(seed=seed)), ("off", SetNetwork(seed=seed))):
            loss = fitted(metric, found.fit, seed=seed, form=form)
            out[metric][switch] = {
                kind: correlation(loss, *blocks_of(metric, moments, seed))
                for kind, moments in (("wide", found.judge), ("narrow", found.judge[-1:]))
            }
    return out


def main() -> None:
    """Run what has not run yet, and write the results."""
    common.arguments(__doc__)
    store = common.Store("reloss_pitfalls", SEEDS)
    fits, sign, of_sets = [], [], []
    for seed in track(range(SEEDS), "fits"):
        fits.append(store.get(key := f"fits/{seed}") or store.add(key, penalty_and_labels(seed)))
        of_sets.append(store.get(key := f"sets/{seed}") or store.add(key, sets(seed)))
    for seed in track(range(SIGNS), "signs"):
        sign.append(store.get(key := f"signs/{seed}") or store.add(key, signs(seed)))
    store.finish(
        fits={
            who: {what: common.interval([run[who][what] for run in fits]) for what in fits[0][who]} for who in fits[0]
        },
        signs={switch: {"wrong": sum(run[switch] < 0 for run in sign), "of": SIGNS} for switch in ("on", "off")},
        scales=scales(),
        sorting=sorting(),
        sets={
            metric: {
                switch: {
                    kind: common.interval([run[metric][switch][kind] for run in of_sets]) for kind in ("wide", "narrow")
                }
                for switch in ("on", "off")
            }
            for metric in of_sets[0]
        },
    )


if __name__ == "__main__":
    main()
