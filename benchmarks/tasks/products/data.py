"""Stanford Online Products' layout: photographs of things for sale, a class for each thing.

::

    Stanford_Online_Products/
      Ebay_train.txt            a header, then one line an image: image_id class_id super_class_id path
      Ebay_test.txt
      bicycle_final/111085122871_0.JPG
      ...

The data are 120,053 images of 22,634 things, of which 11,318 are for training and the others for test; they come from
https://cvgl.stanford.edu/projects/lifted_struct. Any data of this layout can be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from metricgrad.errors import MetricgradError

VARIABLE = "METRICGRAD_PRODUCTS"
_FILES = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_COLUMNS = ["image_id", "class_id", "super_class_id", "path"]


class Products(Dataset[tuple[Tensor, int]]):
    """The images of one part, opened when asked for.

    ``fit(..., per_class=4)`` and :class:`metricgrad.training.balanced.ClassBalanced` take the classes from
    ``targets``. Needs Pillow.

    Args:
        part: ``"train"`` or ``"test"``.
        folder: the one with both lists; by default the environment variable METRICGRAD_PRODUCTS.
        size: images are scaled so that the shorter side is this long, and cut to a square.
        transform: applied to the ``(3, size, size)`` float tensor in [0, 1], such as a normalisation.
        super_classes: the coarse class (bicycle, cabinet, ...) as the target.

    Attributes:
        targets: ``(N,)`` int64 class numbers, as they are in the list.
        paths: the image files.

    Raises:
        MetricgradError: where the lists are not there or of another format, or both parts share a class.
    """

    def __init__(
        self,
        part: Literal["train", "test"],
        folder: str | Path | None = None,
        *,
        size: int = 224,
        transform: Callable[[Tensor], Tensor] | None = None,
        super_classes: bool = False,
    ) -> None:
        if part not in _FILES:
            raise MetricgradError(f"part is {part!r}; expected 'train' or 'test'")
        source = folder or os.environ.get(VARIABLE)
        if source is None:
            raise MetricgradError(
                "Stanford Online Products is not here: fetch it from https://cvgl.stanford.edu/projects/lifted_struct, "
                f"and pass folder= or set {VARIABLE} to the folder with Ebay_train.txt"
            )
        self.folder, self.size, self.transform = Path(source), size, transform
        lines = {name: _read(self.folder / file) for name, file in _FILES.items()}
        shared = {line[1] for line in lines["train"]} & {line[1] for line in lines["test"]}
        if shared:
            raise MetricgradError(
                f"{str(self.folder)!r}: train and test share {len(shared)} classes, such as {min(shared)}; retrieval "
                "of unseen classes needs disjoint ones"
            )
        self.targets = torch.tensor([line[2 if super_classes else 1] for line in lines[part]], dtype=torch.long)
        self.paths = [self.folder / line[3] for line in lines[part]]

    def __len__(self) -> int:
        """How many images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """``(3, size, size)`` float32 and the class number."""
        image = _open(self.paths[index], self.size)
        return image if self.transform is None else self.transform(image), int(self.targets[index])


def _read(path: Path) -> list[tuple[int, int, int, str]]:
    try:
        rows = [line.split(maxsplit=3) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise MetricgradError(
            f"{str(path)!r} cannot be read: {error}; expected Stanford Online Products' list"
        ) from error
    if not rows or rows[0] != _COLUMNS:
        raise MetricgradError(f"{str(path)!r} begins with {rows[:1]}; expected the header {' '.join(_COLUMNS)!r}")
    found = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 4 or not all(field.isdigit() for field in row[:3]):
            raise MetricgradError(f"{str(path)!r}, line {number}: {' '.join(row)!r}; expected {' '.join(_COLUMNS)!r}")
        found.append((int(row[0]), int(row[1]), int(row[2]), row[3].strip()))
    return found


def _open(path: Path, size: int) -> Tensor:
    """The middle square of an image, as floats in [0, 1]."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MetricgradError("opening images needs Pillow: run `pip install metricgrad[retrieval]`") from error
    try:
        with Image.open(path) as file:
            image: Any = file.convert("RGB")
    except OSError as error:
        raise MetricgradError(f"{str(path)!r} cannot be opened: {error}") from error
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    image = image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).to(torch.float32) / 255
