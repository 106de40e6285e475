"""What a policy sees of one child network: the recent past of its validation, seen from each knob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.aligners.knobs.evaluation import spread
from metricgrad.aligners.knobs.state_buffers import Renamed, Slot, StateBuffers
from metricgrad.aligners.knobs.train_batch_buffer import TrainBatchBuffer
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob
from metricgrad.precision import wide

PAST = 10
FEATURES = 2 * PAST + 4
ROLES = 16
_ROWS = 256
_SLOTS = {
    "metric": Slot(torch.float64, ("validations",), group="period"),
    "loss": Slot(torch.float64, ("validations",), group="period"),
    "confusion": Slot(torch.float64, ("validations", "classes", "classes")),
    "largest_metric": Slot(torch.float64, (1,), group="period"),
    "largest_loss": Slot(torch.float64, (1,), group="period"),
    "evaluations": Slot(torch.float64, ("evaluations",), group="evaluation"),
    "evaluated": Slot(torch.int64, group="evaluation"),
    "train": Slot(torch.float64, (2,), undefined=True, group="period"),
    "history": Slot(torch.float64, ("periods", "noted"), undefined=True),
    "move_states": Slot(torch.float32, ("knobs", FEATURES + ROLES), group="move"),
    "move_actions": Slot(torch.int64, ("knobs",), below=3, group="move"),
    "move_logs": Slot(torch.float32, ("knobs",), group="move"),
    "move_row": Slot(torch.float64, ("place",)),
}
"""What an evaluation, a move and the history leave in a child's memory."""

_RENAMED = {"looks": "evaluations", "looked": "evaluated"}


class Child(Renamed):
    r"""The memory of one training run: its last validation values, and the move that waits for its reward.

    For a knob between classes i and j the state is the last ten values of the confusion
    :math:`C_{ij} = \mathrm{mean}_{n: y_n = i}(-\log p_{nj})` and of :math:`C_{ji}`; for any other knob the last ten
    values of the metric and of the loss itself on validation data. Then for both: the last value's relative distance
    to their mean, the knob's value, and the share of training done. A knob's role, its name before a ``[``, follows as
    a one-hot code, so that one policy serves every class and yet tells an exponent from a weight.
    """

    renamed: ClassVar[Mapping[str, str]] = {"recent": "train_batches"}

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.train_batches = StateBuffers(_SLOTS, _RENAMED), TrainBatchBuffer()

    def remember(
        self, form: Form, knobs: Sequence[Knob], scores: Tensor, targets: Tensor, value: float, *, batch: int = 0
    ) -> None:
        """Add one validation of the child; its loss is that of ``batch`` rows or 256, evenly spread.

        A loss that compares all rows with all would cost more on a thousand of them than many steps of training.
        """
        memory = self.memory
        few = spread(len(scores), max(batch, _ROWS)).to(scores.device)
        with torch.no_grad():
            loss = wide(form(scores[few], targets[few.to(targets.device)], call=CallContext(0, 0, counts=False)))
        memory.push("metric", torch.tensor([value], dtype=torch.float64), PAST)
        memory.push("loss", loss.reshape(1), PAST)
        if any(knob.classes is not None for knob in knobs):
            before = memory["confusion"][-1] if "confusion" in memory else None
            memory.push("confusion", confusion(scores, targets, before)[None], PAST)
        for name in ("metric", "loss"):
            largest = memory[name][-1:].abs()
            memory["largest_" + name] = torch.maximum(memory["largest_" + name], largest) if (
                "largest_" + name in memory
            ) else largest  # fmt: skip

    def state(self, knobs: Sequence[Knob], progress: float, *, scaled: bool) -> Tensor:
        """``(knobs, FEATURES)`` float32; ``scaled`` brings every entry near [-1, 1]."""
        memory = self.memory
        plain = torch.stack([_padded(memory[name]) for name in ("metric", "loss")])
        if scaled:
            plain = plain / torch.cat([memory["largest_metric"], memory["largest_loss"]])[:, None].clamp(min=1e-12)
        past = plain.repeat(len(knobs), 1, 1)
        between = [(n, *knob.classes) for n, knob in enumerate(knobs) if knob.classes is not None]
        if between:
            which, i, j = torch.tensor(between).T
            seen = _padded(memory["confusion"])
            if max(i.max(), j.max()) >= seen.shape[-1]:
                raise MetricgradError(
                    f"a knob stands for class {int(max(i.max(), j.max()))}, but validation scores have "
                    f"{seen.shape[-1]} classes"
                )
            pairs = torch.stack([seen[:, i, j].T, seen[:, j, i].T], 1)
            past[which] = pairs.log1p() / 2 if scaled else pairs
        mean = past.mean(2)
        change = (past[:, :, -1] - mean) / mean.abs().clamp(min=1e-12)
        values = torch.stack([knob.parameter.detach() for knob in knobs]).cpu().double()
        if scaled:
            change = change.clamp(-1, 1)
            low, unit = (
                torch.tensor(side, dtype=values.dtype) for side in zip(*((k.low, k.unit) for k in knobs), strict=True)
            )
            values = (values - low) / unit - 1
        ends = torch.stack([values, torch.full_like(values, progress)], 1)
        return torch.cat([past.flatten(1), change, ends], 1).float()


def roles_of(names: Sequence[str]) -> list[str]:
    """The roles of a form's knobs, in the order in which they first appear."""
    return list(dict.fromkeys(name.partition("[")[0] for name in names))


def coded(names: Sequence[str]) -> Tensor:
    """``(knobs, ROLES)`` one-hot codes of the knobs' roles."""
    order = roles_of(names)
    index = torch.tensor([order.index(name.partition("[")[0]) for name in names])
    return nn.functional.one_hot(index, ROLES).float()


def confusion(scores: Tensor, targets: Tensor, before: Tensor | None = None) -> Tensor:
    """``(C, C)`` float64: the mean over items of class i of -log p_j; two classes where shapes are the same.

    A class without items keeps what it was before, or has the value of an even guess.
    """
    scores = wide(scores.detach())
    if scores.shape == targets.shape:
        flat, labels = scores.flatten(), (targets > 0).long().flatten()
        logs = torch.stack([nn.functional.logsigmoid(-flat), nn.functional.logsigmoid(flat)], -1)
    else:
        logs, labels = scores.flatten(0, -2).log_softmax(-1), targets.flatten().long()
    classes = logs.shape[-1]
    member = wide(nn.functional.one_hot(labels, classes))
    count = member.sum(0)[:, None]
    means = (member.T @ -logs) / count.clamp(min=1)
    usual = means.new_full((classes, classes), torch.tensor(float(classes)).log().item()) if before is None else before
    return torch.where(count > 0, means, usual.to(means))


def _padded(values: Tensor) -> Tensor:
    """The last PAST values; the first one stands for those before it."""
    if len(values) >= PAST:
        return values[-PAST:]
    return torch.cat([values[:1].expand(PAST - len(values), *values.shape[1:]), values])
