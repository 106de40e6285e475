"""Retrieval of fonts that training never saw: which font drew a character.

Training, validation and test fonts are disjoint. On held-out rows of the training fonts the metric goes on rising while
it falls on new ones, and would choose the wrong epoch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import Range
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.split import Splits, standardise
from metricgrad.tasks.task import Task
from tasks.glyph_fonts.data import read_glyphs

FONTS = (60, 20, 40)


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


def _font_model() -> nn.Module:
    return mlp(784, 32, (128,))


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
