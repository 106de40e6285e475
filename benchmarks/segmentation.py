"""Segmentation of drawn shapes by a small U-Net: losses and decisions, judged by the mean over images of Dice and IoU.

Each loss at the best of its settings on a draw that is for tuning alone, by validation Dice under a threshold; the
epoch likewise; decisions are fitted on validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import metricgrad as mg
from common import Store, interval, paired
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.baselines.lovasz import Lovasz
from metricgrad.losses.baselines.soft_f_beta import SoftFBeta
from tasks.shapes.data import draw_shapes
from tasks.shapes.model import UNet

SEEDS, TUNING = 8, 1000
TRAIN, VALID, TEST = 240, 120, 300
EPOCHS, BATCH = 8, 16
RATES = (5e-3, 2e-2)
DICE, IOU = mg.as_metric("dice"), mg.as_metric("mean_iou:background=False")
DECISIONS: dict[str, type[mg.decisions.Decision]] = {
    "none": mg.decisions.Identity, "threshold": mg.decisions.Threshold, "masks": mg.decisions.Masks,
}  # fmt: skip


class Sum(nn.Module):
    """Cross-entropy and so many times another loss."""

    def __init__(self, other: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.base, self.other, self.weight = CrossEntropy(), other, weight

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        return self.base(scores, targets) + self.weight * self.other(scores, targets)


#: a loss, its settings beside the rate, and whether it is told which pixel is of which image
LOSSES: dict[str, tuple[Callable[[float], nn.Module], tuple[float, ...], bool]] = {
    "cross-entropy": (lambda _: CrossEntropy(), (1.0,), False),
    "Dice + CE": (lambda w: Sum(SoftFBeta(), w), (1.0, 3.0), False),
    "Lovász + CE": (lambda w: Sum(Lovasz(), w), (1.0,), False),
    "UniLoss, Dice of the batch": (lambda _: mg.UniLoss("dice"), (1.0,), False),
    "UniLoss, Dice of each image": (lambda _: mg.UniLoss("dice"), (1.0,), True),
}


def draw(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test part of one draw."""
    return [draw_shapes(count, seed=3 * seed + part) for part, count in enumerate((TRAIN, VALID, TEST))]


def by_image(metric: mg.Metric, scores: Tensor, targets: Tensor) -> float:
    """The mean over images."""
    return float(metric(scores, targets, groups=torch.arange(len(scores))))


@torch.no_grad()
def scored(model: nn.Module, images: Tensor) -> Tensor:
    """``(N, H, W)``."""
    model.eval()
    found = torch.cat([model(part)[:, 0] for part in images.split(100)])
    model.train()
    return found


def under_a_threshold(scores: Tensor, targets: Tensor) -> float:
    """Mean Dice at the best of nine thresholds, which epochs and settings are chosen by."""
    stack = scores - torch.linspace(-2, 2, 9)[:, None, None, None]
    return float(DICE.over(stack, targets, groups=torch.arange(len(scores))).max())


def train(name: str, rate: float, setting: float, parts: list[tuple[Tensor, Tensor]], seed: int) -> dict[str, Any]:
    """Train once; the scores of the epoch that is best on validation."""
    make, _, of_images = LOSSES[name]
    torch.manual_seed(seed)
    (images, masks), (valid, truth), (test, _) = parts
    model, loss = UNet(), make(setting)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, total_steps=EPOCHS * (TRAIN // BATCH))
    best: dict[str, Any] = {"value": -1.0}
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAIN).split(BATCH):
            optimizer.zero_grad()
            context = {"groups": torch.arange(len(rows))} if of_images else {}
            loss(model(images[rows]), masks[rows], **context).backward()
            optimizer.step()
        value = under_a_threshold(found := scored(model, valid), truth)
        if value > best["value"]:
            best = {"value": value, "valid": found, "test": scored(model, test)}
    return best


def judged(best: dict[str, Any], parts: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Test Dice and IoU under each decision, fitted on validation for the metric that judges."""
    found, (_, truth), (_, masks) = {}, parts[1], parts[2]
    for label, metric in (("dice", DICE), ("iou", IOU)):
        for kind, decisions in DECISIONS.items():
            decision = decisions.fit(metric, best["valid"], truth, groups=torch.arange(len(truth)))
            found[f"{label} {kind}"] = by_image(metric, decision(best["test"]), masks)
    return found


def main(words: list[str] | None = None) -> None:
    """Tune, train, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args(words).seeds
    store = Store("segmentation", seeds)
    tuning, settings = draw(TUNING), {}
    for name, (_, weights, _) in LOSSES.items():
        tried = {}
        for rate in RATES:
            for weight in weights:
                key = f"tuning/{name}/{rate:g}/{weight:g}"
                value = store.get(key)
                tried[rate, weight] = value or store.add(key, train(name, rate, weight, tuning, TUNING)["value"])
        settings[name] = max(tried, key=lambda pair: tried[pair])
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in LOSSES}
    for seed in range(seeds):
        parts = draw(seed)
        for name in LOSSES:
            key = f"{seed}/{name}"
            found = store.get(key) or store.add(key, judged(train(name, *settings[name], parts, seed), parts))
            runs[name].append(found)
    columns = list(runs["cross-entropy"][0])
    rival = "Dice + CE"
    store.finish(
        rows={
            name: {
                "rate": settings[name][0], "weight": settings[name][1],
                **{column: interval([run[column] for run in found]) for column in columns},
            }
            for name, found in runs.items()
        },
        against={
            name: {
                column: paired([run[column] for run in found], [run[column] for run in runs[rival]])
                for column in ("dice threshold", "dice masks", "iou threshold", "iou masks")
            }
            for name, found in runs.items() if name != rival
        },
        masks={
            name: {
                label: paired([run[f"{label} masks"] for run in found], [run[f"{label} threshold"] for run in found])
                for label in ("dice", "iou")
            }
            for name, found in runs.items()
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
