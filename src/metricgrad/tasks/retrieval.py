"""Retrieval of classes that training never saw: unseen digits, and unseen fonts.

Training, validation and test classes are disjoint. On held-out rows of the training classes the metric goes on rising
while it falls on new ones, and would choose the wrong epoch. Of six digits none can be spared, so their
validation part is held-out rows in the mirror: six shapes that training never saw.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from metricgrad.data.glyphs import read_glyphs
from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import Range
from metricgrad.models.mlp import mlp
from metricgrad.tasks.digits import read_digits
from metricgrad.tasks.split import Part, Splits, standardise
from metricgrad.tasks.task import Task

TEST_DIGITS = (6, 7, 8, 9)
SIDE = 8
SHARE = 0.8
FONTS = (60, 20, 40)
WIDTH = 4


def _digits(seed: int) -> Splits:
    """Four fifths of the digits 0 to 5, the other fifth in the mirror, and four fifths of the digits 6 to 9."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = read_digits()
    known = targets < min(TEST_DIGITS)
    train, (images, digits) = _cut(inputs[known], targets[known], generator)
    mirrored = images.unflatten(1, (SIDE, SIDE)).flip(2).flatten(1)
    test, _ = _cut(inputs[~known], targets[~known], generator)
    return standardise(Splits(train, (mirrored, digits + 10), test), features=False)


def _cut(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Part, Part]:
    """Four fifths of the rows, and the others."""
    order = torch.randperm(len(targets), generator=generator)
    first, second = order[: round(SHARE * len(order))], order[round(SHARE * len(order)) :]
    return (inputs[first], targets[first]), (inputs[second], targets[second])


@functools.cache
def _glyphs() -> tuple[Tensor, Tensor]:
    images, _, fonts = read_glyphs()
    return torch.from_numpy(images), torch.from_numpy(fonts)


def _fonts(seed: int) -> Splits:
    """Draw 60 fonts to train on, 20 to validate and 40 to test, all their characters; fewer in proportion."""
    images, fonts = _glyphs()
    total = int(fonts.max()) + 1
    if total < 6:
        raise MetricgradError(f"the glyphs have {total} fonts; font retrieval needs 6 or more, better 120")
    scale = min(1.0, total / sum(FONTS))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    sizes = [max(2, int(scale * size)) for size in FONTS]
    parts = []
    for chosen in order[: sum(sizes)].split(sizes):
        rows = torch.isin(fonts, chosen)
        parts.append((images[rows].flatten(1).to(torch.float32) / 255, fonts[rows]))
    return standardise(Splits(*parts), features=False)


def _digit_model() -> nn.Module:
    return mlp(64, WIDTH)


def _font_model() -> nn.Module:
    return mlp(784, 32, (128,))


digits_retrieval = Task(
    "digits-retrieval",
    model=_digit_model,
    load=_digits,
    metric="retrieval_recall:k=1",
    kind="retrieval",
    device="cpu",
    batch_size=72,
    per_class=12,
    summary="embeddings of 4 numbers: learned on the digits 0 to 5, chosen on mirrored ones, judged on 6 to 9",
)
glyphs_fonts = Task(
    "glyphs-fonts",
    model=_font_model,
    load=_fonts,
    metric="retrieval_recall:k=1",
    kind="retrieval",
    device="cpu",
    epochs=10,
    batch_size=128,
    per_class=8,
    lr=Range(1e-4, 1e-2, default=1e-3),
    summary="which font drew a character: learned on 60 fonts, chosen on 20, judged on 40 others, drawn by seed",
)
