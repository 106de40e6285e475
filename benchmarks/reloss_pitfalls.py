"""What goes wrong when a surrogate is fitted as published, and what mends it: each pitfall with the switch on and off.

On is ``ReLoss.fit(..., paper=True)``, the released code in the library; off is the library's default. Where several
pitfalls meet in one fit, a row between the two mends the one in question alone. Pitfalls of ranks are in
:mod:`reloss_pitfall_ranks`. Digits, ten classes, unless it says otherwise.

One trap of the released code is not behind the switch: its ready-made losses are pickled files from the network. The
library unpickles nothing; ``ReLoss.pretrained`` reads safetensors that come with it.
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
from metricgrad.aligners.fitting.blocks import Block, ScoreStore, labelled_by
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from reloss_pitfall_ranks import networks, scales, ties
from surrogates import SOURCES, blocks_of, correlation, fitted, recorded

SEEDS, SIGNS = 5, 20
ROWS = (16, 64)
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
STEPS = 256
PAPER: dict[str, Any] = {"paper": True, "steps": 40}
SMALL: dict[str, Any] = {"paper": True, "block": 64, "values": 32}  # as large as the default's, where fits are many
FITS: dict[str, dict[str, Any]] = {
    "paper=True": PAPER,
    "paper=True, penalty=0": {**PAPER, "penalty": 0.0},
    "default": {},
    "default, penalty=0.1": {"penalty": 0.1},
    "paper=True, block=16": {**PAPER, "block": 16},
    "default, block=16": {"block": 16},
}
SETS: dict[str, dict[str, Any]] = {
    "paper=True": {**SMALL, "steps": 60},
    "default, a mean over rows": {"form": ProbabilityNetwork},
    "default": {},
}


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


def fits(seed: int) -> dict[str, dict[str, float]]:
    """Pitfalls 1, 2 and 4: the penalty on the batch's mean, labels that are the model's own, small blocks that tie."""
    found = recorded(SOURCES["digits"], seed)
    blocks = {
        "own": _of_own_labels(found.judge[-1][0], seed),
        "narrow": blocks_of("accuracy", found.judge[-1:], seed),
        "wide": blocks_of("accuracy", found.judge, seed),
    }

    def judged(loss: nn.Module) -> dict[str, float]:
        ranked = {kind: correlation(loss, *drawn) for kind, drawn in blocks.items()}
        return {**ranked, **accuracy_after(loss, seed)}

    out = {"cross-entropy": judged(CrossEntropy()), "unfitted": judged(mg.Loss(ProbabilityNetwork(seed=seed)))}
    for name, options in FITS.items():
        loss = fitted("accuracy", found.fit, seed=seed, **options)
        values = curve(loss)
        falling = float((values.diff() <= 0).double().mean())
        out[name] = {**judged(loss), "largest": float(values.max()), "falling": falling}
    return out


def _of_own_labels(scores: Tensor, seed: int) -> tuple[list[Block], Tensor]:
    """Blocks as ``paper=True`` draws them: labels are the model's own predictions, a random share of them wrong."""
    store, g = ScoreStore(scores, scores.argmax(-1)), torch.Generator().manual_seed(seed)
    return labelled_by(mg.as_metric("accuracy"), lambda: store.draw(64, "label_noise", g), 200)


def signs(seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Pitfall 3: where short fits to blocks of two sizes settle, and the test accuracy of a model trained with each."""
    found = recorded(SOURCES["digits"], 0)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for rows in ROWS:
        out[str(rows)] = {}
        for switch, options in (("on", SMALL), ("off", {})):
            loss = fitted("accuracy", found.fit, seed=seed, steps=20, **{**options, "block": rows})
            trained = _trained(loss, functools.partial(torch.optim.AdamW, lr=RATES[0]), 0)
            out[str(rows)][switch] = {"correlation": loss.report()["correlation"]["value"], "accuracy": trained[1]}
    return out


def sets(seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Pitfall 6: a mean over rows against a network of the set, for metrics of sets."""
    found = recorded(SOURCES["digit 8"], seed)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for metric in ("f1", "average_precision", "auroc"):
        blocks = {
            kind: blocks_of(metric, moments, seed)
            for kind, moments in (("wide", found.judge), ("narrow", found.judge[-1:]))
        }
        out[metric] = {}
        for name, options in SETS.items():
            form = options["form"](seed=seed) if "form" in options else None
            loss = fitted(metric, found.fit, seed=seed, **{**options, "form": form})
            out[metric][name] = {kind: correlation(loss, *drawn) for kind, drawn in blocks.items()}
    return out


def listed(seed: int) -> dict[str, Any]:
    """Pitfall 4: what the order of the blocks decides, for two sizes of them at the end of a training."""
    moment = recorded(SOURCES["digits"], seed).judge[-1]
    return {str(rows): ties(moment, rows, seed) for rows in ROWS}


def _wrong(runs: list[dict[str, float]]) -> dict[str, Any]:
    """How many fits rank the wrong way round, and what the models trained with those reach."""
    turned = [run for run in runs if run["correlation"] < 0]
    return {"wrong": len(turned), "of": len(runs), "accuracy": [run["accuracy"] for run in turned]}


def over_seeds(runs: list[Any]) -> Any:
    """The same nested dictionaries with an interval over seeds in place of each number; None stays."""
    if isinstance(runs[0], dict):
        return {key: over_seeds([run[key] for run in runs]) for key in runs[0]}
    return None if runs[0] is None else common.interval(runs)


def main() -> None:
    """Run what has not run yet, and write the results."""
    common.arguments(__doc__)
    store = common.Store("reloss_pitfalls", SEEDS)
    parts = {"fits": (fits, SEEDS), "sets": (sets, SEEDS), "ties": (listed, SEEDS), "signs": (signs, SIGNS)}
    found: dict[str, list[Any]] = {}
    for name, (measure, seeds) in parts.items():
        found[name] = [
            store.get(key := f"{name}/{seed}") or store.add(key, measure(seed)) for seed in track(range(seeds), name)
        ]
    store.finish(
        fits=over_seeds(found["fits"]),
        sets=over_seeds(found["sets"]),
        ties=over_seeds(found["ties"]),
        signs={
            str(rows): {switch: _wrong([run[str(rows)][switch] for run in found["signs"]]) for switch in ("on", "off")}
            for rows in ROWS
        },
        scales=store.get("scales") or store.add("scales", scales()),
        networks=store.get("networks") or store.add("networks", networks()),
    )


if __name__ == "__main__":
    main()
