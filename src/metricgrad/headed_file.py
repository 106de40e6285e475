"""Tensors in a safetensors file whose header says, in JSON, what they are: how losses and policies are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metricgrad.errors import MetricgradError

_FORMAT = 1
_KEY = "metricgrad"


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able header as one file."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, str(path), metadata={_KEY: json.dumps({"format": _FORMAT, **header})})


def read(path: str | Path, *, part: str, writer: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file.

    Args:
        path: written by :func:`write`.
        part: a name that the header must have.
        writer: what writes such files, for the message.

    Raises:
        MetricgradError: for a file that cannot be read, or is not of this sort.
    """
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise MetricgradError(f"cannot read {path}: {error}") from error
    if header is None or header.get("format") != _FORMAT or part not in header:
        raise MetricgradError(f"{path} was not written by {writer} of this version")
    return header, tensors
