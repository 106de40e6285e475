"""Key points of a humanoid in motion-capture poses, judged by PCK. Needs the extra ``pose``."""

from __future__ import annotations

import functools

from torch import nn

from metricgrad.losses.registry import Range
from metricgrad.tasks.split import Splits
from metricgrad.tasks.task import Task
from tasks.humanoid.data import JOINTS, draw_humanoids
from tasks.humanoid.motion import PARTS
from tasks.stick_figures.model import Hourglass

COUNTS = (600, 200, 200)


@functools.lru_cache(maxsize=8)
def _rendered(seed: int) -> Splits:
    drawn = [draw_humanoids(count, part=part, seed=seed)[:2] for part, count in zip(PARTS, COUNTS, strict=True)]
    grey = drawn[0][0].mean()
    return Splits(*((images - grey, joints) for images, joints in drawn))


def _model() -> nn.Module:
    return Hourglass(len(JOINTS))


humanoid_pose = Task(
    "humanoid-pose",
    model=_model,
    load=_rendered,
    metric="pck",
    kind="keypoints",
    epochs=30,
    batch_size=32,
    lr=Range(1e-4, 3e-2, default=1e-2),
    device="cpu",
    summary="1,000 pictures of a humanoid in motion-capture poses, 32 x 32 pixels, 16 joints, right within 2 pixels; "
    "the parts' poses are no neighbours (extra: pose)",
)
