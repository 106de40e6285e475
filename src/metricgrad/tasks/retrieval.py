"""Retrieval of classes that training never saw: unseen digits, and unseen fonts.

Training, validation and test classes are disjoint. Validation must hold unseen classes too: on held-out rows of the
training classes the metric goes on rising while it falls on new ones, so it would choose the wrong epoch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from metricgrad.data.glyphs import read_glyphs
from metricgrad.errors import MetricgradError
from metricgrad.models.mlp import mlp
from metricgrad.tasks.digits import read_digits
from metricgrad.tasks.split import Part, Splits, standardise
from metricgrad.tasks.task import Task

TEST_DIGITS = (6, 7, 8, 9)
VALID_DIGITS = 2
SHARE = 0.8
FONTS = (60, 20, 40)
WIDTH = 4


def _digits(seed: int) -> Splits:
    """Train on four of the digits 0 to 5, validate on the other two, test on 6 to 9; each draw leaves out a fifth."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.randperm(min(TEST_DIGITS), generator=generator)
    parts = (known[VALID_DIGITS:], known[:VALID_DIGITS], torch.tensor(TEST_DIGITS))
    inputs, targets = read_digits()
    return standardise(Splits(*(_of_classes(inputs, targets, c, generator) for c in parts)), features=False)


def _of_classes(inputs: Tensor, targets: Tensor, classes: Tensor, generator: torch.Generator) -> Part:
    rows = torch.isin(targets, classes).nonzero().squeeze(1)
    kept = rows[torch.randperm(len(rows), generator=generator)[: round(SHARE * len(rows))]]
    return inputs[kept], targets[kept]


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
    batch_size=64,
    per_class=16,
    summary="embeddings of 4 numbers, learned on four of the digits 0 to 5, chosen on the other two, judged on 6 to 9",
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
    summary="which font drew a character: learned on 60 fonts, chosen on 20, judged on 40 others, drawn by seed",
)
