"""Key points of drawn stick figures, judged by PCK."""

from __future__ import annotations

from torch import nn

from metricgrad.losses.registry import Range
from metricgrad.tasks.split import Splits, split
from metricgrad.tasks.task import Task
from tasks.stick_figures.data import JOINTS, draw_figures
from tasks.stick_figures.model import Hourglass

COUNT = 1000


def _drawn(seed: int) -> Splits:
    images, joints, _ = draw_figures(COUNT, seed=seed)
    return split(images - images.mean(), joints, seed)


def _model() -> nn.Module:
    return Hourglass(len(JOINTS))


figures = Task(
    "figures",
    model=_model,
    load=_drawn,
    metric="pck",
    kind="keypoints",
    epochs=15,
    batch_size=32,
    lr=Range(1e-4, 3e-2, default=3e-3),
    device="cpu",
    summary="1,000 drawn stick figures of 32 x 32 pixels, eleven joints, right within 2 pixels",
)
