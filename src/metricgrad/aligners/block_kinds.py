"""What is done to a block of stored rows, so that blocks differ more than the stored rows do."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.functional.cosines import unit_rows
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.layouts import Layout

Kind = Literal["real", "mislabelled", "tempered", "shifted", "flipped", "random"]


def changed(
    scores: Tensor, targets: Tensor, kind: Kind, *, layout: Layout, spread: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of scores as their kind says; see :meth:`metricgrad.aligners.blocks.Store.draw`."""
    if kind not in ("real", "mislabelled"):
        scores = scores * 4 ** (2 * torch.rand((), generator=generator).item() - 1)
    if kind == "shifted":
        offset = torch.randn(_columns(scores, targets, layout), generator=generator).to(scores)
        scores = scores + 1.5 * spread * offset
    if kind == "random":
        scores = scores[_order(targets, generator)]
    if kind in ("mislabelled", "flipped"):
        targets = _flipped(scores, targets, layout, torch.rand((), generator=generator).item(), generator)
    return scores, targets


def _columns(scores: Tensor, targets: Tensor, layout: Layout) -> torch.Size:
    """What a model predicts too much of: a class or a label; of images with a score a pixel, all of it."""
    if layout == "given" and scores.ndim > targets.ndim:
        return scores.shape[-1:]
    return torch.Size() if layout == "given" and scores.ndim > 2 else scores.shape[1:]


def changed_embeddings(
    embeddings: Tensor, targets: Tensor, kind: Kind, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Embeddings as their kind says; see :meth:`metricgrad.aligners.blocks.Store.draw`."""
    strength = torch.rand((), generator=generator).item()
    if kind == "tempered":
        noise = torch.randn(embeddings.shape, generator=generator).to(embeddings)
        embeddings = torch.lerp(unit_rows(embeddings), unit_rows(noise), strength)
    if kind == "shifted":
        side = torch.randn(embeddings.shape[1:], generator=generator).to(embeddings)
        embeddings = torch.lerp(unit_rows(embeddings), unit_rows(side).expand_as(embeddings), strength)
    if kind == "random":
        embeddings = embeddings[_order(targets, generator)]
    if kind in ("mislabelled", "flipped"):
        chosen = (torch.rand(targets.shape, generator=generator) < strength).to(targets.device)
        targets = torch.where(chosen, targets[_order(targets, generator)], targets)
    return embeddings, targets


def _flipped(scores: Tensor, targets: Tensor, layout: Layout, rate: float, generator: torch.Generator) -> Tensor:
    chosen = (torch.rand(targets.shape, generator=generator) < rate).to(targets.device)
    if layout in ("maps", "spans"):  # a point or an answer is replaced whole
        return torch.where(chosen[:, :1], targets[_order(targets, generator)], targets)
    if scores.shape == targets.shape:
        other = 1 - targets.long() if is_binary(targets) else targets[_order(targets, generator)]
    else:
        classes = scores.shape[-1]
        shift = torch.randint(1, max(2, classes), targets.shape, generator=generator)
        other = (targets.long() + shift.to(targets.device)) % classes
        chosen = chosen & (targets >= 0)
    return torch.where(chosen, other.to(targets.dtype), targets)


def _order(targets: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(targets), generator=generator).to(targets.device)
