"""The IDX format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist), plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read one IDX file.

    Args:
        path: a file, gzipped where its name ends in ``.gz``.

    Returns:
        An array in the machine's byte order.

    Raises:
        MetricgradError: for a file that is missing, torn, or of another format.
    """
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise MetricgradError(f"{str(path)!r} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise MetricgradError(f"{str(path)!r} is no IDX file: it begins with {raw[:4].hex() or 'nothing'}")
    axes = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4)) if len(raw) >= 4 + 4 * axes else (-1,)
    dtype = np.dtype(_TYPES[raw[2]])
    if min(shape, default=0) < 0 or len(raw) != 4 + 4 * axes + int(np.prod(shape)) * dtype.itemsize:
        raise MetricgradError(
            f"{str(path)!r} is torn: its header and its {len(raw)} bytes do not agree; fetch it again"
        )
    return np.frombuffer(raw, dtype, offset=4 + 4 * axes).reshape(shape).astype(dtype.newbyteorder("="))
