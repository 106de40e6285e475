"""What is done to a block of stored rows, so that blocks differ more than the stored rows do."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.functional.cosines import unit_rows
from metricgrad.metrics.layouts.layout import Layout, shuffled

Augmentation = Literal["real", "label_noise", "tempered", "shifted", "flipped", "random"]


def augmented(
    scores: Tensor, targets: Tensor, kind: Augmentation, *, layout: Layout, spread: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of scores as their kind says; see :meth:`metricgrad.aligners.fitting.blocks.ScoreStore.draw`."""
    if kind not in ("real", "label_noise"):
        scores = scores * 4 ** (2 * torch.rand((), generator=generator).item() - 1)
    if kind == "shifted":
        offset = torch.randn(layout.offset_shape(scores, targets), generator=generator).to(scores)
        scores = scores + 1.5 * spread * offset
    if kind == "random":
        scores = scores[shuffled(targets, generator)]
    if kind in ("label_noise", "flipped"):
        targets = layout.with_label_noise(scores, targets, torch.rand((), generator=generator).item(), generator)
    return scores, targets


def augmented_embeddings(
    embeddings: Tensor, targets: Tensor, kind: Augmentation, *, layout: Layout, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Embeddings as their kind says; see :meth:`metricgrad.aligners.fitting.blocks.ScoreStore.draw`."""
    strength = torch.rand((), generator=generator).item()
    if kind == "tempered":
        noise = torch.randn(embeddings.shape, generator=generator).to(embeddings)
        embeddings = torch.lerp(unit_rows(embeddings), unit_rows(noise), strength)
    if kind == "shifted":
        side = torch.randn(embeddings.shape[1:], generator=generator).to(embeddings)
        embeddings = torch.lerp(unit_rows(embeddings), unit_rows(side).expand_as(embeddings), strength)
    if kind == "random":
        embeddings = embeddings[shuffled(targets, generator)]
    if kind in ("label_noise", "flipped"):
        targets = layout.with_label_noise(embeddings, targets, strength, generator)
    return embeddings, targets
