"""Key points as MPII and COCO store them: a JSON of annotations beside a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

# an MPII person's scale is the height in units of 200 pixels; a quarter more leaves room for the limbs
_MPII_UNIT, _ROOM = 200.0, 1.25
_HEAD = 0.6


@dataclass(frozen=True)
class Keypoints:
    """People, each cut out as a square and resized.

    Attributes:
        images: ``(N, 3, size, size)`` in [0, 1]; black beyond the picture's edge.
        points: ``(N, J, 2)`` joints (x, y) in pixels of the cut-out; zeros where absent.
        present: ``(N, J)`` whether a joint is annotated and within the cut-out: the ``mask`` of ``pck``.
        head_sizes: ``(N,)`` in pixels of the cut-out, or None where the annotations have none.
    """

    images: Tensor
    points: Tensor
    present: Tensor
    head_sizes: Tensor | None


@dataclass(frozen=True)
class _Person:
    image: str
    box: tuple[float, float, float]  # left, top and side of the square
    points: list[list[float]]
    present: list[bool]
    head: float | None


def read_mpii(annotations: str | Path, images: str | Path, *, size: int = 64, limit: int | None = None) -> Keypoints:
    """People of MPII Human Pose in its common JSON form: a list of persons.

    Each has ``image``, ``center`` (x, y), ``scale`` (height over 200 pixels), ``joints`` and ``joints_vis``. Head sizes
    are 0.6 times the diagonal of ``headbox`` (x1, y1, x2, y2), where every person has one, as PCKh defines them. Points
    of -1 count as absent; coordinates are taken as they are, so subtract 1 from those counted from 1.

    Args:
        annotations: the JSON file.
        images: the folder of pictures.
        size: of the cut-outs, in pixels.
        limit: no more people than this, from the first.

    Raises:
        MetricgradError: where a file or a field is missing, or Pillow is not installed.
    """

    def person(record: dict[str, Any]) -> _Person:
        (x, y), side = record["center"], float(record["scale"]) * _MPII_UNIT * _ROOM
        box = record.get("headbox")
        head = None if box is None else _HEAD * float(np.hypot(box[2] - box[0], box[3] - box[1]))
        seen = [bool(v) and min(p) >= 0 for v, p in zip(record["joints_vis"], record["joints"], strict=True)]
        return _Person(record["image"], (x - side / 2, y - side / 2, side), record["joints"], seen, head)

    records = _json(annotations)
    if not isinstance(records, list):
        raise MetricgradError(f"{annotations} holds a {type(records).__name__}; expected MPII's list of persons")
    return _cut(records, person, annotations, Path(images), size, limit)


def read_coco(annotations: str | Path, images: str | Path, *, size: int = 64, limit: int | None = None) -> Keypoints:
    """People of COCO's key-point annotations: ``images``, and ``annotations`` with ``keypoints`` and ``bbox``.

    A key point is (x, y, v), with v = 0 where it is not labelled. People without a labelled joint and crowds are left
    out. COCO has no head sizes.

    Args:
        annotations: the JSON file, such as ``person_keypoints_val2017.json``.
        images: the folder of pictures.
        size: of the cut-outs, in pixels.
        limit: no more people than this, from the first.

    Raises:
        MetricgradError: where a file or a field is missing, or Pillow is not installed.
    """
    content = _json(annotations)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise MetricgradError(f"{annotations} lacks 'images' or 'annotations'; expected COCO's key-point file")
    names = {image["id"]: image["file_name"] for image in content["images"]}

    def person(record: dict[str, Any]) -> _Person:
        left, top, width, height = record["bbox"]
        side = max(width, height) * _ROOM
        triples = np.asarray(record["keypoints"], dtype=float).reshape(-1, 3)
        box = (left + width / 2 - side / 2, top + height / 2 - side / 2, side)
        return _Person(names[record["image_id"]], box, triples[:, :2].tolist(), (triples[:, 2] > 0).tolist(), None)

    kept = [r for r in content["annotations"] if any(r.get("keypoints", [])[2::3]) and not r.get("iscrowd")]
    return _cut(kept, person, annotations, Path(images), size, limit)


def _json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise MetricgradError(f"annotations {path} cannot be read: {error.strerror}; pass the JSON file") from error
    except json.JSONDecodeError as error:
        raise MetricgradError(f"annotations {path} are no JSON: {error}") from error


def _cut(
    records: list[dict[str, Any]],
    person: Callable[[dict[str, Any]], _Person],
    source: str | Path,
    folder: Path,
    size: int,
    limit: int | None,
) -> Keypoints:
    try:
        people = [person(record) for record in records[:limit]]
    except (KeyError, TypeError, ValueError) as error:
        raise MetricgradError(
            f"{source}: an annotation is not as expected ({type(error).__name__}: {error})"
        ) from error
    if not people:
        raise MetricgradError(f"{source} holds no person with key points")
    images = torch.stack([_square(folder / p.image, p.box, size) for p in people])
    boxes = torch.tensor([p.box for p in people])
    scale = size / boxes[:, 2]
    # the centre of the first pixel is at 0, before and after
    points = (torch.tensor([p.points for p in people]) + 0.5 - boxes[:, None, :2]) * scale[:, None, None] - 0.5
    within = ((points > -0.5) & (points < size - 0.5)).all(-1)
    present = torch.tensor([p.present for p in people]) & within
    heads = [p.head for p in people if p.head is not None]
    sizes = torch.tensor(heads) * scale if len(heads) == len(people) else None
    return Keypoints(images, points.where(present[..., None], torch.zeros(())), present, sizes)


def _square(path: Path, box: tuple[float, float, float], size: int) -> Tensor:
    """``(3, size, size)`` in [0, 1]."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MetricgradError("reading pictures needs Pillow: run `pip install pillow`") from error
    left, top, side = box
    try:
        with Image.open(path) as picture:
            cut = picture.convert("RGB").transform(
                (size, size),
                Image.Transform.EXTENT,
                (left, top, left + side, top + side),
                Image.Resampling.BILINEAR,
            )
    except OSError as error:
        raise MetricgradError(f"picture {path} cannot be read: {error}") from error
    return torch.from_numpy(np.array(cut)).movedim(-1, 0).float() / 255
