"""What ALA's benchmark trains on: noisy labels, few positives, outliers, unequal classes, every part drawn by seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from linear import fashion_pixels, principal_components
from metricgrad.tasks.digits import digits, read_digits
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, split, standardise, thin

#: Seeds that nothing was tried on. Fashion-MNIST is cut into 20 pieces: settings were tried on 0 to 9.
SEEDS = range(100, 110)
PIECE, TRAIN, VALID = 3_500, 1_000, 400
OVERLAP = 1 / 3  # test rows for each training row, where every seed draws from the same 1,797 digits


@dataclass(frozen=True)
class Study:
    """A task with its metric.

    Attributes:
        about: it in words.
        load: a seed to three parts.
        metric: of the policy, of the choice of epoch and child, and of the test.
        outputs: scores of an item, None for one.
        grid: ten settings of the form's knobs, for the tuned grid.
        overlap: of seeds, for Nadeau and Bengio's correction; 0 where draws share no item.
        inputs: numbers of an item.
        hidden: widths of the network's layers.
        lr: AdamW's learning rate.
        epochs: of batches of 64.
    """

    about: str
    load: Callable[[int], Splits]
    metric: str
    outputs: int | None
    grid: list[dict[str, float]]
    overlap: float = OVERLAP
    inputs: int = 64
    hidden: tuple[int, ...] = (64,)
    lr: float = 5e-3
    epochs: int = 30

    def model(self) -> nn.Module:
        """A fresh network."""
        return mlp(self.inputs, self.outputs, self.hidden)


@dataclass
class Pieces:
    """Disjoint pieces of Fashion-MNIST: draws that share no item."""

    order: Tensor = field(
        default_factory=lambda: torch.randperm(70_000, generator=torch.Generator().manual_seed(12345))
    )

    def load(self, number: int) -> Splits:
        """1,000, 400 and 2,100 items, as 64 principal components of the first part."""
        inputs, targets = fashion_pixels()
        rows = self.order[number * PIECE : (number + 1) * PIECE].split([TRAIN, VALID, PIECE - TRAIN - VALID])
        return Splits(*principal_components([(inputs[i], targets[i]) for i in rows], 64))


@functools.cache
def pieces() -> Pieces:
    """Read once."""
    return Pieces()


def noisy(data: Splits, rate: float, seed: int, *, pairs: bool, classes: int = 10) -> Splits:
    """Wrong training labels: c becomes c + 1, or any other class. Validation and test stay clean."""
    (inputs, targets), valid, test = data
    generator = torch.Generator().manual_seed(seed + 1)
    flipped = torch.rand(len(targets), generator=generator) < rate
    shift = torch.ones_like(targets) if pairs else torch.randint(1, classes, targets.shape, generator=generator)
    return Splits((inputs, torch.where(flipped, (targets + shift) % classes, targets)), valid, test)


def outliers(seed: int) -> Splits:
    """2-D: 5 % positives at (1.5, 0), negatives at (-0.5, 0), and 2 % far positives that no line can serve as well."""
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(6_000, generator=generator) < 0.05).long()
    x = torch.randn(6_000, 2, generator=generator) + torch.where(y[:, None] > 0, 1.5, -0.5) * torch.tensor([1.0, 0.0])
    far = torch.rand(6_000, generator=generator) < 0.02
    x[far] = torch.randn(int(far.sum()), 2, generator=generator) + torch.tensor([-12.0, 6.0])
    y[far] = 1
    return Splits((x[:1500], y[:1500]), (x[1500:3000], y[1500:3000]), (x[3000:], y[3000:]))


def rare(seed: int) -> Splits:
    """The digit 8 against the rest, 5 % positives."""
    inputs, targets = read_digits()
    kept = thin(targets, targets == 8, 0.05, seed)
    return standardise(split(inputs[kept], (targets[kept] == 8).long(), seed, stratify=True), features=False)


def unequal(seed: int) -> Splits:
    """Digits thinned geometrically 10:1, 170 zeros to 17 nines."""
    inputs, targets = read_digits()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    kept = torch.cat([order[targets[order] == c][: round(170 * 10 ** (-c / 9))] for c in range(10)])
    return standardise(split(inputs[kept], targets[kept], seed, stratify=True), features=False)


def few_classes(seed: int) -> Splits:
    """The digits 0 to 5, 40 % of the training labels moved to the next of them: what a policy is brought from."""
    parts = [(x[y < 6], y[y < 6]) for x, y in digits.load(seed)]
    return noisy(Splits(*parts), 0.4, seed, pairs=True, classes=6)


ROBUST = [{"exponent": n / 10} for n in range(10)]
RARE = [{"balance": b, "exponent": q} for b in (0.0, 0.5, 1.0) for q in (0.0, 0.5, 0.9)] + [{"focus": 2.0}]
UNEQUAL = [{"balance": b, "adjustment": a} for b in (0.0, 0.5, 1.0) for a in (0.0, 0.5, 1.0)] + [{"adjustment": 1.5}]

STUDIES = {
    "pair flips, Fashion": Study(
        "Accuracy, Fashion-MNIST in disjoint pieces of 1,000 training items, 40 % of their labels moved to the next "
        "class",
        lambda seed: noisy(pieces().load(seed - 90), 0.4, seed, pairs=True), "accuracy", 10, ROBUST, overlap=0.0,
    ),
    "pair flips, digits": Study(
        "Accuracy, digits, 40 % of the training labels moved to the next class",
        lambda seed: noisy(Splits(*digits.load(seed)), 0.4, seed, pairs=True), "accuracy", 10, ROBUST,
    ),
    "symmetric noise, digits": Study(
        "Accuracy, digits, 50 % of the training labels moved to any other class",
        lambda seed: noisy(Splits(*digits.load(seed)), 0.5, seed, pairs=False), "accuracy", 10, ROBUST,
    ),
    "outliers": Study(
        "Average precision, linear scorer, synthetic 2-D data, 5 % positives and 2 % far outliers",
        outliers, "average_precision", None, RARE, overlap=0.0, inputs=2, hidden=(), lr=3e-2, epochs=20,
    ),
    "digits-rare": Study(
        "Average precision, one digit against the rest, 5 % positives", rare, "average_precision", None, RARE,
    ),
    "digits-rare F1": Study(
        "F1, one digit against the rest, 5 % positives, every row at its best threshold on validation",
        rare, "f1", None, RARE,
    ),
    "digits-unequal": Study(
        "G-mean over ten classes, digits thinned 10:1", unequal, "g_mean", 10, UNEQUAL,
    ),
}  # fmt: skip
