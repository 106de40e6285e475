"""Motion capture that comes with pybullet: read, and cut so that poses of two parts are no neighbours."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
RUNS = 5
GAP = 0.1
_SHARES = (3, 1, 1)
_NUMBERS = 44


class Motion(NamedTuple):
    """Frames of all clips, one clip after the other.

    Attributes:
        frames: ``(N, 44)`` float64; see :func:`read_motion` for what each number is.
        clips: ``(N,)`` int64, which clip a frame is of.
        loops: for each clip, whether its last frame leads to its first.
        names: the clips' names.
    """

    frames: Tensor
    clips: Tensor
    loops: tuple[bool, ...]
    names: tuple[str, ...]


def motion_folder() -> Path:
    """Where pybullet keeps its data.

    Raises:
        MetricgradError: where pybullet is not installed.
    """
    found = importlib.util.find_spec("pybullet_data")
    if found is None or found.origin is None or importlib.util.find_spec("pybullet") is None:
        raise MetricgradError("humanoid pictures need pybullet: run `pip install metricgrad[pose]`")
    return Path(found.origin).parent


@functools.cache
def read_motion() -> Motion:
    """The 15 clips of a human body that come with pybullet: 1,620 frames of walking, dancing, cartwheels and the like.

    A frame is the seconds until the next, the root's place (y is up), and then joint for joint the turn relative to the
    parent, a quaternion (w, x, y, z), or an angle for elbows and knees: root, chest, neck, right hip, knee, ankle,
    shoulder, elbow, and the same for the left.

    Raises:
        MetricgradError: where pybullet is not installed, or its files are not as expected.
    """
    folder = motion_folder() / "data" / "motions"
    frames, clips, loops, names = [], [], [], []
    for path in sorted(folder.glob("humanoid3d_*.txt")):
        try:
            content = json.loads(path.read_text())
            clip = torch.tensor(content["Frames"], dtype=torch.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MetricgradError(f"pybullet's {path.name} cannot be read as motion capture: {error}") from error
        if clip.ndim != 2 or clip.shape[1] != _NUMBERS:
            raise MetricgradError(
                f"pybullet's {path.name} has frames of shape {tuple(clip.shape)}; expected (N, {_NUMBERS})"
            )
        clips.append(torch.full((len(clip),), len(names)))
        frames.append(clip)
        loops.append(content.get("Loop") == "wrap")
        names.append(path.stem.removeprefix("humanoid3d_"))
    if not names:
        raise MetricgradError("pybullet's data hold no humanoid3d_*.txt: run `pip install --force-reinstall pybullet`")
    return Motion(torch.cat(frames), torch.cat(clips), tuple(loops), tuple(names))


def part_of_motion(part: Part | None, seed: int) -> Tensor:
    """Which frames belong to a part.

    Each clip is cut into five runs of consecutive frames, of which the seed gives three to training, one to validation
    and one to test. Where runs of two parts meet, and where a looping clip closes, frames less than a tenth of a second
    (at least two frames) from the other part's are left out: of training beside validation or test, of validation
    beside test. So every test pose lies apart in time from every other part's; the kind of motion is the same. The
    nearest training pose is then 13 cm away (joint by joint, the body turned to fit best, median over test poses of
    seed 0), where a random cut of the frames has 1.3 cm, the way of one frame.

    Args:
        part: ``"train"``, ``"valid"``, ``"test"``, or None for all frames.
        seed: of the cut.

    Returns:
        Indices into the frames of :func:`read_motion`, ascending: about half, a sixth and a fifth of them.
    """
    motion = read_motion()
    if part is None:
        return torch.arange(len(motion.frames))
    if part not in PARTS:
        raise MetricgradError(f"part is {part!r}; expected one of {', '.join(PARTS)}, or None for all frames")
    mine = PARTS.index(part)
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([number for number, count in enumerate(_SHARES) for _ in range(count)])
    kept, start = [], 0
    for clip, loops in enumerate(motion.loops):
        length = int((motion.clips == clip).sum())
        owner = share[torch.randperm(RUNS, generator=generator)][torch.arange(length) * RUNS // length]
        gap = max(2, round(GAP / float(motion.frames[start, 0])))
        allowed = owner == mine
        for shift in range(1, gap + 1):
            for step in (shift, -shift):
                beside = owner.roll(step)
                if not loops:
                    beside[slice(0, step) if step > 0 else slice(step, None)] = -1
                allowed &= beside <= mine
        kept.append(start + allowed.nonzero()[:, 0])
        start += length
    return torch.cat(kept)
