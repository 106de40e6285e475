"""The data sets of AdaLFL's claims, each with its models, its learning rates and how it is scored."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import read
from metricgrad.tasks.fashion_data import read_fashion
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.split import Part, split, standardise
from tasks.communities.data import read_communities

BATCH = 64
TRAIN, VALID = 4000, 1000  # images of one draw; the test part is the official one
PARTS = (
    "diabetes", "diabetes-momentum", "communities", "digits", "digits-momentum", "mnist", "fashion", "fashion-cnn",
    "mnist-cnn",
)  # fmt: skip
STANDARD = ("standard_tuned", "standard_tuned_on_both")
LEARNED = ("adalfl", "paper_start", "residual", "offline_only", "random", "learned_rate")
FAR = ("adalfl", "paper_start", "offline_only", "far", "far_offline_only", "learned_rate")  # far: ten steps at once
CHEAPER = ("every_2", "every_4", "valid_16")  # AdaLFL at its rate, looking ahead less often or at fewer rows
Parts = tuple[Part, Part, Part]


@dataclass(frozen=True)
class Setting:
    """One data set with one model.

    Attributes:
        load: seed to training, validation and test part.
        rates: the learning rates that every loss tries.
        momentum: of SGD.
        learned: the learned losses and their controls.
        cheaper: what is trained at AdaLFL's rate only.
        draws: how many draws of the data the rates are tried on.
    """

    name: str
    kind: Any
    model: Callable[[], nn.Module]
    load: Callable[[int], Parts]
    rates: tuple[float, ...]
    momentum: float = 0.0
    learned: tuple[str, ...] = LEARNED
    cheaper: tuple[str, ...] = ()
    draws: int = 1

    @property
    def overlap(self) -> float:
        """Of seeds: tables are split anew, 60 % to train and 20 % to test; image test parts are the official ones."""
        return 1 / 3 if self.name.split("-")[0] in ("diabetes", "communities", "digits") else 0.0

    @property
    def tuned(self) -> tuple[str, ...]:
        """What is trained at a tuned rate."""
        return (*STANDARD, *self.learned)

    @property
    def at_one_rate(self) -> tuple[str, ...]:
        """What is trained at AdaLFL's rate."""
        return ("standard", *self.cheaper)

    @property
    def regression(self) -> bool:
        """Squared error, not cross-entropy."""
        return self.kind == "regression"

    def optimizer(self, parameters: Any, lr: float) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)

    def score(self, model: nn.Module, part: Part) -> float:
        """Mean squared error, or error in percent."""
        with torch.no_grad():
            scores = torch.cat([model(some) for some in part[0].split(1000)])
        if self.regression:
            return float((scores - part[1]).square().mean())
        return 100 * float((scores.argmax(1) != part[1]).float().mean())


def batches(part: Part, size: int = BATCH) -> list[Part]:
    """Whole batches, in order."""
    cuts = range(0, max(1, len(part[1]) - size + 1), size)
    return [(part[0][i : i + size], part[1][i : i + size]) for i in cuts]


def settings(data: Path) -> dict[str, Setting]:
    """All of them; ``data`` is the folder with mnist20k.npz."""
    few, many, images = (0.01, 0.03, 0.1), (0.003, 0.01, 0.03), (0.02, 0.1, 0.5)  # more features bear a lower rate
    tenths = (0.004, 0.02, 0.1)
    with_momentum: dict[str, Any] = {"momentum": 0.9, "learned": FAR}
    mnist, fashion = functools.partial(_mnist, data), _fashion
    small, some = small_cnn, mlp_of_images
    found = [
        Setting("diabetes", "regression", lambda: _linear(10), _task("diabetes"), few, cheaper=CHEAPER),
        Setting("diabetes-momentum", "regression", lambda: _linear(10), _task("diabetes"), many, **with_momentum),
        Setting("communities", "regression", lambda: _linear(100), _communities, many),
        Setting("digits", "classification", lambda: mlp(64, 10), _task("digits"), images, cheaper=CHEAPER),
        Setting("digits-momentum", "classification", lambda: mlp(64, 10), _task("digits"), tenths, **with_momentum),
        Setting("mnist", "classification", some, mnist, images),
        Setting("fashion", "classification", some, fashion, images),
        Setting("fashion-cnn", "classification", small, fashion, images),
        Setting("mnist-cnn", "classification", small, mnist, images),
    ]
    return dict(zip(PARTS, found, strict=True))


def small_cnn() -> nn.Sequential:
    """Two convolutions of stride 2, 6,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


def mlp_of_images() -> nn.Sequential:
    """One hidden layer of 128 units."""
    return mlp(784, 10, (128,))


def _linear(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 1), nn.Flatten(0))


def _task(name: str) -> Callable[[int], Parts]:
    return lambda seed: tuple(get_task(name).load(seed))  # type: ignore[return-value]


@functools.cache
def _read_communities() -> tuple[Tensor, Tensor]:
    features, rates = read_communities()
    return torch.from_numpy(features).float(), torch.from_numpy(rates).float()


def _communities(seed: int) -> Parts:
    parts = standardise(split(*_read_communities(), seed))
    mean, deviation = parts.train[1].mean(), parts.train[1].std()
    train, valid, test = ((inputs, (rates - mean) / deviation) for inputs, rates in parts)
    return train, valid, test


@functools.cache
def images_of_mnist(data: Path) -> tuple[Tensor, ...]:
    """Images and labels of 10,000 training digits and of the test part."""
    file = read(data, "mnist20k.npz")
    return tuple(torch.from_numpy(file[name]) for name in ("x_train", "y_train", "x_test", "y_test"))


@functools.cache
def _images_of_fashion() -> tuple[Tensor, ...]:
    images, labels = (torch.from_numpy(part) for part in read_fashion())
    return images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]


def _mnist(data: Path, seed: int) -> Parts:
    return _drawn(images_of_mnist(data), seed)


def _fashion(seed: int) -> Parts:
    return _drawn(_images_of_fashion(), seed)


def _drawn(images: tuple[Tensor, ...], seed: int) -> Parts:
    """A draw from the official training part, and the whole official test part."""
    inputs, labels, test_inputs, test_labels = images
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, valid = order[:TRAIN], order[TRAIN : TRAIN + VALID]
    return (
        (scaled(inputs[train]), labels[train].long()),
        (scaled(inputs[valid]), labels[valid].long()),
        (scaled(test_inputs), test_labels.long()),
    )


def scaled(images: Tensor) -> Tensor:
    """``(N, 28, 28)`` bytes to ``(N, 1, 28, 28)``, about standardised."""
    return (images[:, None].float() / 255 - 0.2) / 0.33
