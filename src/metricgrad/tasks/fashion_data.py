"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence): 70,000 images of clothes in ten classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError
from metricgrad.tasks.idx import read_idx

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
VARIABLE = "METRICGRAD_FASHION"
HUB = "zalando-datasets/fashion_mnist"


def read_fashion(source: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All 70,000 images and labels, the official training part first.

    Args:
        source: a folder with the four IDX files, or ``"hub"`` for the Hugging Face hub's copy. By default the
            environment variable METRICGRAD_FASHION, then Debian's package.

    Returns:
        ``(70000, 28, 28)`` uint8 and ``(70000,)`` int64.

    Raises:
        MetricgradError: where the files are not there.
    """
    source = source or os.environ.get(VARIABLE)
    if source == "hub":
        return _from_hub()
    folder = Path(source) if source else DEBIAN
    parts = []
    for part in ("train", "t10k"):
        for what in ("images-idx3", "labels-idx1"):
            found = [p for p in (folder / f"{part}-{what}-ubyte.gz", folder / f"{part}-{what}-ubyte") if p.exists()]
            if not found:
                raise MetricgradError(
                    f"Fashion-MNIST is not in {str(folder)!r}: run `apt-get install dataset-fashion-mnist`, or set "
                    f"{VARIABLE} to a folder with its IDX files, or to 'hub' for the Hugging Face hub's copy"
                )
            parts.append(read_idx(found[0]))
    return np.concatenate([parts[0], parts[2]]), np.concatenate([parts[1], parts[3]]).astype(np.int64)


def _from_hub() -> tuple[np.ndarray, np.ndarray]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]  # optional, asked for by name
    except ImportError as error:
        raise MetricgradError(f"{VARIABLE}=hub needs the package datasets: run `pip install datasets`") from error
    try:
        parts = load_dataset(HUB)
    except Exception as error:
        raise MetricgradError(f"{HUB!r} cannot be loaded from the hub: {error}") from error
    images = [np.stack([np.asarray(image) for image in parts[name]["image"]]) for name in ("train", "test")]
    labels = [np.asarray(parts[name]["label"], dtype=np.int64) for name in ("train", "test")]
    return np.concatenate(images), np.concatenate(labels)
