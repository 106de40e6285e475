"""Key-point data without a download: pictures of a humanoid in motion-capture poses, rendered on the CPU.

Needs the extra ``pose`` (pybullet). The body and its 1,620 poses come with pybullet, which renders them with its
TinyRenderer: no display and no graphics card.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.progress import ProgressBar
from tasks.humanoid.motion import PARTS, Part, motion_folder, part_of_motion, read_motion

JOINTS = (
    *("pelvis", "chest", "neck", "head"),
    *("right shoulder", "right elbow", "right hand", "left shoulder", "left elbow", "left hand"),
    *("right hip", "right knee", "right foot", "left hip", "left knee", "left foot"),
)
# the body's own name of each joint; the head is the middle of what hangs on the neck
_LINKS = (
    *("root", "chest", "neck", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
)
_HEAD = JOINTS.index("head")
# where a frame of motion capture holds each joint's turn: the first number, and how many
_TURNS = {
    "chest": (8, 4), "neck": (12, 4),
    "right_hip": (16, 4), "right_knee": (20, 1), "right_ankle": (21, 4),
    "right_shoulder": (25, 4), "right_elbow": (29, 1),
    "left_hip": (30, 4), "left_knee": (34, 1), "left_ankle": (35, 4),
    "left_shoulder": (39, 4), "left_elbow": (43, 1),
}  # fmt: skip
_SCALE = 0.25  # the body's file is in quarters of a metre
_TALL = 1.75
_NECK_TO_CROWN = 0.2775
_THICK = 0.1
_NEAR = 0.1
_FINE = 2  # pixels rendered for each pixel's side


def draw_humanoids(
    count: int, *, part: Part | None = None, size: int = 32, noise: float = 0.05, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of one humanoid each, in poses of motion capture, before a dark, shaded and noisy background.

    Random are the pose, the side it is seen from and from how high, the camera's distance and roll, place and size in
    the picture, the light, and the shades of the body and the background. Left limbs are lighter than right ones, as
    front and back of the body look nearly the same. Any pose is drawn once before one is drawn again.

    Args:
        count: pictures.
        part: ``"train"``, ``"valid"`` or ``"test"`` for the poses of one part, which are no neighbours in time of
            another part's (:func:`tasks.humanoid.motion.part_of_motion` says how, the parts follow from ``seed``);
            None for all 1,620.
        size: height and width in pixels, at least 16.
        noise: standard deviation of the pixel noise.
        seed: of everything random, the cut into parts included. Parts of one seed get different pictures.

    Returns:
        ``(count, 1, size, size)`` float32 pictures, about 0 to 1; ``(count, 16, 2)`` joints as (x, y) in pixels, the
        centre of the first pixel at 0, in the order of ``JOINTS``, all within the picture, whether the body hides them
        or not; ``(count,)`` head sizes in pixels, the length from neck to crown at the head's distance from the camera.

    Cost: 2 to 4 ms a picture of 32 pixels; a progress bar on stderr after two seconds.

    Raises:
        MetricgradError: for a size below 16, a negative count or an unknown part, or where pybullet is not installed.

    Example::

        images, joints, heads = draw_humanoids(384, part="train", seed=0)
        unseen, truth, sizes = draw_humanoids(256, part="test", seed=0)

    References:
        X. B. Peng, P. Abbeel, S. Levine and M. van de Panne, "DeepMimic", ACM Transactions on Graphics 2018: the body
        and the motion clips, as pybullet ships them.
    """
    if size < 16 or count < 0:
        raise MetricgradError(f"size={size}, count={count}; expected at least 16 pixels and no negative count")
    frames, pool = read_motion().frames, part_of_motion(part, seed)
    g = torch.Generator().manual_seed((len(PARTS) + 1) * seed + (len(PARTS) if part is None else PARTS.index(part)))
    rounds = [pool[torch.randperm(len(pool), generator=g)] for _ in range(math.ceil(count / len(pool)))]
    images, joints, heads = torch.zeros(count, 1, size, size), torch.zeros(count, len(JOINTS), 2), torch.zeros(count)
    if not count:
        return images, joints, heads
    with _body() as body, ProgressBar(count, "draw humanoids", unit="image") as bar:
        for row, frame in enumerate(torch.cat(rounds)[:count].tolist()):
            body.take(frames[frame].tolist())
            images[row, 0], joints[row], heads[row] = body.picture(size, g)
            bar.update(row + 1)
    return images + noise * torch.randn(images.shape, generator=g), joints, heads


class _Body:
    """The humanoid in a physics client of its own."""

    def __init__(self, bullet: Any, client: int, path: str) -> None:
        self._bullet, self._client = bullet, client
        self._body = bullet.loadURDF(path, globalScaling=_SCALE, useFixedBase=True, physicsClientId=client)
        count = bullet.getNumJoints(self._body, physicsClientId=client)
        infos = [bullet.getJointInfo(self._body, index, physicsClientId=client) for index in range(count)]
        self._links = {info[12].decode(): info[0] for info in infos}

    def take(self, frame: list[float]) -> None:
        """Take the pose of one frame of motion capture."""
        reset = {"bodyUniqueId": self._body, "physicsClientId": self._client}
        w, x, y, z = frame[4:8]
        self._bullet.resetBasePositionAndOrientation(self._body, frame[1:4], (x, y, z, w), physicsClientId=self._client)
        for name, (first, length) in _TURNS.items():
            if length == 1:
                self._bullet.resetJointState(jointIndex=self._links[name], targetValue=frame[first], **reset)
            else:
                w, x, y, z = frame[first : first + 4]
                self._bullet.resetJointStateMultiDof(jointIndex=self._links[name], targetValue=(x, y, z, w), **reset)

    def picture(self, size: int, g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """``(size, size)`` shades, ``(16, 2)`` joints in pixels and the head's size, seen from somewhere."""
        places = self._places()
        view, distance = _camera((places.amin(0) + places.amax(0)) / 2, g)
        seen = places @ view[:3, :3].T + view[:3, 3]
        depth = -seen[:, 2]
        plane = seen[:, :2] / depth[:, None]
        left, top, side = _window(plane, depth, distance, g)
        joints = torch.stack([plane[:, 0] - left, top - plane[:, 1]], -1) * (size / side) - 0.5
        edges = (left, left + side, top - side, top)
        projection = self._bullet.computeProjectionMatrix(*(edge * _NEAR for edge in edges), _NEAR, 2 * distance)
        self._paint(g)
        image = self._render(view, projection, size, g)
        return image, joints.float(), _NECK_TO_CROWN / float(depth[_HEAD]) / side * size

    def _places(self) -> Tensor:
        """``(16, 3)`` float64, metres."""
        states = self._bullet.getLinkStates(
            self._body,
            [self._links[link] for link in _LINKS],
            computeForwardKinematics=True,
            physicsClientId=self._client,
        )
        # 0 is the middle of a link, 4 its joint
        return torch.tensor([state[0 if row == _HEAD else 4] for row, state in enumerate(states)], dtype=torch.float64)

    def _paint(self, g: torch.Generator) -> None:
        """New shades: darker ones for the right limbs than for the trunk, lighter ones for the left."""
        usual = 0.7 + 0.1 * (_uniform(g) - 0.5)
        for name, link in self._links.items():
            level = usual + 0.25 * (name.startswith("left") - name.startswith("right"))
            shade = min(1.0, level + 0.1 * (_uniform(g) - 0.5))
            self._bullet.changeVisualShape(
                self._body, link, rgbaColor=(shade, shade, shade, 1.0), physicsClientId=self._client
            )

    def _render(self, view: Tensor, projection: Any, size: int, g: torch.Generator) -> Tensor:
        """The body before a background whose shade changes from edge to edge; edges are smooth."""
        fine = _FINE * size
        turn, height = 2 * math.pi * _uniform(g), 0.3 + 1.2 * _uniform(g)
        found = self._bullet.getCameraImage(
            fine, fine, view.T.flatten().tolist(), projection,
            lightDirection=(math.cos(turn), height, math.sin(turn)),
            lightAmbientCoeff=0.5 + 0.2 * _uniform(g), lightDiffuseCoeff=0.4 + 0.2 * _uniform(g),
            lightSpecularCoeff=0.0, shadow=0, renderer=self._bullet.ER_TINY_RENDERER, physicsClientId=self._client,
        )  # fmt: skip
        colours = torch.from_numpy(np.asarray(found[2], dtype=np.float32).reshape(fine, fine, 4)[..., 0] / 255)
        covered = torch.from_numpy(np.asarray(found[4]).reshape(fine, fine) >= 0)
        along = torch.linspace(-0.5, 0.5, fine)
        turn = 2 * math.pi * _uniform(g)
        slope = math.cos(turn) * along[:, None] + math.sin(turn) * along[None, :]
        behind = 0.05 + 0.15 * _uniform(g) + 0.1 * slope
        image = torch.where(covered, colours, behind)
        return image.reshape(size, _FINE, size, _FINE).mean((1, 3))


def _camera(middle: Tensor, g: torch.Generator) -> tuple[Tensor, float]:
    """The ``(4, 4)`` matrix from the world to a camera that looks at the middle, and its distance."""
    yaw, pitch, roll = 2 * math.pi * _uniform(g), 0.7 * _uniform(g) - 0.15, 0.3 * (2 * _uniform(g) - 1)
    distance = 2.5 + 3.5 * _uniform(g)
    back = torch.tensor(
        [math.cos(pitch) * math.cos(yaw), math.sin(pitch), math.cos(pitch) * math.sin(yaw)], dtype=torch.float64
    )
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), back)
    right = right / right.norm()
    up = torch.linalg.cross(back, right)
    axes = torch.stack(
        [math.cos(roll) * right + math.sin(roll) * up, math.cos(roll) * up - math.sin(roll) * right, back]
    )
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = axes
    view[:3, 3] = -axes @ (middle + distance * back)
    return view, distance


def _window(plane: Tensor, depth: Tensor, distance: float, g: torch.Generator) -> tuple[float, float, float]:
    """Left, top and side of a square of the image plane, at a depth of one, that holds all joints.

    A standing body takes 65 to 90 % of it; a pose that is longer on the picture widens it.
    """
    thick = (_THICK / depth)[:, None]
    low, high = (plane - thick).amin(0), (plane + thick).amax(0)
    extent = high - low
    side = max(_TALL / distance / (0.65 + 0.25 * _uniform(g)), 1.02 * float(extent.max()))
    place = torch.rand(2, generator=g, dtype=plane.dtype) * (side - extent)
    return float(low[0] - place[0]), float(high[1] + place[1]), side


def _uniform(g: torch.Generator) -> float:
    """A number from 0 to 1."""
    return float(torch.rand((), generator=g))


@contextlib.contextmanager
def _body() -> Iterator[_Body]:
    """The body, for as long as the context lasts."""
    source = motion_folder() / "humanoid" / "humanoid.urdf"
    import pybullet  # type: ignore[import-not-found]  # optional, and without types

    try:
        # the file ends in a stray byte
        robot = ElementTree.fromstring(source.read_text(errors="replace").partition("</robot>")[0] + "</robot>")
    except (OSError, ElementTree.ParseError) as error:
        raise MetricgradError(f"pybullet's {source.name} cannot be read: {error}; install pybullet again") from error
    # a joint that turns any way has no axis in the file, of which pybullet complains on stdout for each of them
    for joint in robot.iterfind("joint[@type='spherical']"):
        ElementTree.SubElement(joint, "axis", xyz="1 0 0")
    client = pybullet.connect(pybullet.DIRECT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / source.name
            path.write_bytes(ElementTree.tostring(robot))
            body = _Body(pybullet, client, str(path))
        yield body
    finally:
        pybullet.disconnect(physicsClientId=client)
