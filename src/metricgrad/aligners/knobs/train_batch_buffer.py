"""Training batches since the last evaluation, for the training side of the generalisation gap, with no further pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.knobs.evaluation import judged
from metricgrad.metrics.metric import Metric

_NUMBERS = 2**20
_ROWS = 1024


class TrainBatchBuffer(nn.Module):
    """Scores and targets of the last training batches, and the mean loss since it was last asked for.

    The scores are those the loss was called with, each batch's before its step: nothing is computed again. They travel
    with the module's state, so that a resumed run notes what an undisturbed one would. Kept are the last 1,024 rows,
    and less where they have more than a million numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.total: Tensor | None = None
        self.count = 0

    def add(self, scores: Tensor, targets: Tensor, value: Tensor) -> None:
        """Note one call of the loss. Batches of another shape than the last are forgotten."""
        scores, targets, value = scores.detach(), targets.detach(), value.detach()
        self.total = value if self.total is None else self.total.to(value.device) + value
        self.count += 1
        if self.batches and any(
            old.shape[1:] != new.shape[1:] for old, new in zip(self.batches[-1], (scores, targets), strict=True)
        ):
            self.batches.clear()
        self.batches.append((scores, targets))
        rows, numbers = sum(s.shape[0] for s, _ in self.batches), sum(s.numel() for s, _ in self.batches)
        while len(self.batches) > 1 and (rows - self.batches[0][0].shape[0] >= _ROWS or numbers > _NUMBERS):
            oldest, _ = self.batches.pop(0)
            rows, numbers = rows - oldest.shape[0], numbers - oldest.numel()

    def measure(self, metric: Metric, rows: int, *, best: bool) -> tuple[float, float]:
        """The metric on at most so many last rows and the mean loss, NaN where there is nothing; then start anew.

        A metric that cannot be measured on them, for want of a class perhaps, is NaN too: training goes on without.
        """
        loss = math.nan if self.total is None else float(self.total) / self.count
        value = math.nan
        if self.batches:
            device = self.batches[-1][0].device
            scores, targets = (
                torch.cat([t.to(device) for t in part])[-rows:] for part in zip(*self.batches, strict=True)
            )
            try:
                value = judged(metric, scores, targets, best=best)
            except (ValueError, RuntimeError):
                value = math.nan
        self.batches, self.total, self.count = [], None, 0
        return value, loss

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.batches and self.total is not None:
            scores, targets = (torch.cat(part).cpu() for part in zip(*self.batches, strict=True))
            destination[prefix + "scores"], destination[prefix + "targets"] = scores, targets
            destination[prefix + "sizes"] = torch.tensor([len(s) for s, _ in self.batches])
            destination[prefix + "total"] = self.total.cpu().reshape(1).clone()
            destination[prefix + "count"] = torch.tensor([self.count])

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self.batches, self.total, self.count = [], None, 0
        if prefix + "count" in state_dict:
            held: dict[str, Any] = {
                name: state_dict.get(prefix + name) for name in ("scores", "targets", "sizes", "total", "count")
            }
            if reason := _refusal(held):
                error_msgs.append(f"{prefix}{reason}.")
                return
            parts = (held[name].clone().split(held["sizes"].tolist()) for name in ("scores", "targets"))
            self.batches = list(zip(*parts, strict=True))
            self.total, self.count = held["total"][0].clone(), int(held["count"])


def _refusal(held: Mapping[str, Any]) -> str | None:
    """Why saved tensors are no training batches, or None."""
    if missing := [name for name, value in held.items() if value is None]:
        return f"{missing[0]} is missing"
    sizes, count = held["sizes"], held["count"]
    if sizes.dtype != torch.int64 or sizes.ndim != 1 or not bool((sizes > 0).all()):
        return "sizes are no whole numbers above 0"
    if any(held[name].ndim < 1 or len(held[name]) != int(sizes.sum()) for name in ("scores", "targets")):
        return f"scores and targets are not of {int(sizes.sum())} rows, as sizes say"
    if held["total"].shape != (1,) or count.shape != (1,) or count.dtype != torch.int64 or int(count) < 1:
        return "total or count is no single number"
    return None
