"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the layouts the Hugging Face hub keeps images in.

::

    FOLDER/train/airplane/0001.png      one folder a class, whose names in order are the classes 0, 1, ...
    FOLDER/test/airplane/0001.png

    FOLDER/plain_text/train-00000-of-00001.parquet      in FOLDER itself or one folder below; columns img and label,
    FOLDER/plain_text/test-00000-of-00001.parquet       for CIFAR-100 img and fine_label

The original archives are pickles, which are not read. Any images of one size in these layouts can be.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from metricgrad.errors import MetricgradError

HUB = {10: "uoft-cs/cifar10", 100: "uoft-cs/cifar100"}
PARTS = ("train", "test")
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_PIXELS, _LABELS = ("img", "image"), ("label", "fine_label")

Part = tuple[np.ndarray, np.ndarray]


def read_cifar(source: str | Path, classes: int = 10) -> tuple[Part, Part]:
    """Training and test part. Needs Pillow, for parquet pyarrow.

    Args:
        source: a folder in one of the layouts, or ``"hub"`` for the Hugging Face hub's copy, by the package datasets.
        classes: 10 or 100 with ``"hub"``; labels of a folder are checked against it.

    Returns:
        Twice ``(N, H, W, 3)`` uint8 and ``(N,)`` int64.

    Raises:
        MetricgradError: where a part is missing, a package that is needed is not installed, images differ in size, or
            labels are out of range.
    """
    if source == "hub":
        train, test = (_stacked(rows, HUB[classes]) for rows in _from_hub(classes))
    else:
        folder = Path(source)
        train, test = (_stacked(_rows(folder, part), f"{folder}, {part}") for part in PARTS)
    for _, labels in (train, test):
        if labels.min() < 0 or labels.max() >= classes:
            raise MetricgradError(f"{source} has labels {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return train, test


def _rows(folder: Path, part: str) -> Iterable[tuple[Any, int]]:
    if (folder / part).is_dir():
        names = sorted(p.name for p in (folder / part).iterdir() if p.is_dir())
        for label, name in enumerate(names):
            for path in sorted((folder / part / name).iterdir()):
                if path.suffix.lower() in _IMAGES:
                    yield path, label
        return
    files = sorted(p for where in ("", "*/") for p in folder.glob(f"{where}{part}*.parquet"))
    if not files:
        raise MetricgradError(
            f"{str(folder)!r} has neither a folder {part}/ of one folder a class nor {part}*.parquet; fetch a copy, "
            f"for example `hf download {HUB[10]} --repo-type dataset --local-dir {folder}`, or give 'hub'"
        )
    yield from _of_parquet(files)


def _of_parquet(files: list[Path]) -> Iterable[tuple[Any, int]]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-not-found]  # optional
    except ImportError as error:
        raise MetricgradError("parquet files need the package pyarrow: run `pip install pyarrow`") from error
    for file in files:
        table = parquet.read_table(file)
        columns = [next((n for n in known if n in table.column_names), None) for known in (_PIXELS, _LABELS)]
        if None in columns:
            raise MetricgradError(f"{file} has columns {table.column_names}; expected img and label (or fine_label)")
        images, labels = (table.column(name).to_pylist() for name in columns)
        for image, label in zip(images, labels, strict=True):
            yield io.BytesIO(image["bytes"]), label


def _from_hub(classes: int) -> list[Iterable[tuple[Any, int]]]:
    if classes not in HUB:
        raise MetricgradError(f"classes is {classes!r}; the hub has CIFAR-10 and CIFAR-100: give 10 or 100")
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]  # optional, asked for by name
    except ImportError as error:
        raise MetricgradError("source='hub' needs the package datasets: run `pip install datasets`") from error
    try:
        parts = load_dataset(HUB[classes])
    except Exception as error:
        raise MetricgradError(f"{HUB[classes]!r} cannot be loaded from the hub: {error}") from error
    label = "label" if classes == 10 else "fine_label"
    return [((row["img"], row[label]) for row in parts[name]) for name in PARTS]


def _stacked(rows: Iterable[tuple[Any, int]], where: str) -> Part:
    from PIL import Image

    images, labels = [], []
    for image, label in rows:
        opened = image if isinstance(image, Image.Image) else Image.open(image)
        images.append(np.asarray(opened.convert("RGB"), dtype=np.uint8))
        labels.append(label)
    if not images:
        raise MetricgradError(f"{where} has no images; expected {', '.join(sorted(_IMAGES))}")
    if len({image.shape for image in images}) > 1:
        raise MetricgradError(f"{where} has images of {len({i.shape for i in images})} sizes; scale them to one")
    return np.stack(images), np.array(labels, dtype=np.int64)
