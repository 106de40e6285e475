"""Tensors in a safetensors file whose header says, in JSON, what they are: how losses and policies are stored.

A file is data. It names no code: classes are looked up in the package's own table, metrics are built in or passed by
the user who loads it. What it says is checked against the signatures, state dicts and shapes of what it is for before
anything of its size is asked for, and whatever is wrong with it is one :class:`MetricgradError` that names the file.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.json_types import checked_arguments, fits, parse
from metricgrad.writing import replacing

_FORMAT = 1
_KEY = "metricgrad"
_EXTRA = nn.modules.module._EXTRA_STATE_KEY_SUFFIX
_MOST = 2**48
_DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Headed:
    """What a file holds.

    Attributes:
        path: where it is.
        header: what it says of itself.
        tensors: by name.
        metric: what the user who loads it is judged by, or None: it goes in place of a metric that is not built in.
    """

    path: str | Path
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    metric: Any = None

    @property
    def numbers(self) -> int:
        """How many numbers it holds, which bounds the size of what it can be the state of."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What goes wrong in the block is the file's fault, and said as such."""
        try:
            yield
        except MetricgradError as error:
            raise self.wrong(str(error)) from error
        except Exception as error:  # whatever a malformed file makes torch or Python raise
            raise self.wrong(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error

    def wrong(self, what: str) -> MetricgradError:
        """The error that names the file."""
        start = f"{self.path}: "
        return MetricgradError(what if what.startswith(start) else start + what)

    def made(self, cls: type[T], config: Any, what: str, *, outlined: bool = False) -> T:
        """An object from its arguments, each of the type its hint says.

        Args:
            cls: the class.
            config: the arguments.
            what: names it in messages.
            outlined: whether it is a module whose size follows from its arguments; it is then refused, before memory is
                asked for, where it is of more numbers than the file holds.
        """
        arguments = checked_arguments(cls, config, what)
        if outlined and issubclass(cls, nn.Module):
            with torch.device("meta"):  # shapes without memory
                outline = cls(**arguments)
            asked = sum(tensor.numel() for tensor in _tensors(outline.state_dict()).values())
            if asked > self.numbers:
                raise self.wrong(f"{what} is of {asked} numbers, and the file holds {self.numbers}")
        return cls(**arguments)

    def fill(self, module: nn.Module, extra: Any) -> None:
        """Load the tensors, and the JSON-able rest of the state, into what they are the state of.

        Raises:
            MetricgradError: for a name, shape, dtype or type other than the module's, and for a number that is not
                finite where the module's own is, or negative where it counts.
        """
        before = {name: value.clone() for name, value in _tensors(module.state_dict()).items()}
        self._check_extra(module, extra)
        for name, value in self.tensors.items():
            own = before.get(name)
            if own is not None and own.is_floating_point() != value.is_floating_point():
                raise self.wrong(f"tensor {name!r} is of dtype {value.dtype}; expected {own.dtype}")
        try:
            module.load_state_dict({**self.tensors, **extra})
        except RuntimeError as error:
            raise self.wrong(" ".join(str(error).split())[:300]) from error
        for name, value in _tensors(module.state_dict()).items():
            own = before.get(name)
            if own is None:
                continue
            may_lack = ~own.isfinite() if own.shape == value.shape else torch.zeros_like(value, dtype=torch.bool)
            if value.is_floating_point() and not bool((value.isfinite() | may_lack).all()):
                raise self.wrong(f"tensor {name!r} has NaN or infinite numbers")
            if not value.is_floating_point() and bool(((value < 0) | (value.long() > _MOST)).any()):
                raise self.wrong(f"tensor {name!r} counts, and has numbers that are not from 0 to {_MOST}")

    def _check_extra(self, module: nn.Module, extra: Any) -> None:
        owners = {
            f"{name}.{_EXTRA}" if name else _EXTRA: part
            for name, part in module.named_modules()
            if type(part).set_extra_state is not nn.Module.set_extra_state
        }
        if not isinstance(extra, dict) or extra.keys() != owners.keys():
            raise self.wrong(f"extra is {extra!r:.60}; expected {', '.join(owners) or 'nothing'}")
        for name, part in owners.items():
            (hint,) = (
                hint
                for given, hint in typing.get_type_hints(part.set_extra_state).items()
                if given in inspect.signature(part.set_extra_state).parameters
            )
            if not fits(extra[name], hint):
                raise self.wrong(f"extra {name!r} is {extra[name]!r:.100}, which is no state of {type(part).__name__}")


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able header as one file.

    Raises:
        MetricgradError: where it cannot be written; a file that was there is then untouched.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as part:
        # not by save_file, which leaves a file of its own behind where the disk is full
        part.write_bytes(save(contiguous, metadata=header_of(header)))


def header_of(header: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a safetensors file, for who writes its tensors by other means than :func:`write`."""
    return {_KEY: json.dumps({"format": _FORMAT, **header})}


def read(path: str | Path, *, part: str, writer: str, metric: Any = None) -> Headed:
    """The header and the tensors of a file.

    Args:
        path: written by :func:`write`.
        part: a name that the header must have.
        writer: what writes such files, for the message.
        metric: see :class:`Headed`.

    Raises:
        MetricgradError: for a file that cannot be read, or is not of this sort.
    """
    header = read_header(path, part=part, writer=writer)
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise MetricgradError(f"{path}: tensor {name!r} is of dtype {tensor.dtype}, which no loss has")
    return Headed(path, header, tensors, metric)


def read_header(path: str | Path, *, part: str, writer: str) -> dict[str, Any]:
    """The header of a file alone; see :func:`read`."""
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    header = None
    if text is not None:
        try:
            header = parse(text)
        except MetricgradError as error:
            raise MetricgradError(f"{path}: its header is no JSON of ours: {error}") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT or part not in header:
        raise MetricgradError(f"{path} was not written by {writer} of this version")
    return header


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), "pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MetricgradError(f"cannot read {path}: {reason}") from error


def rename_keys(state_dict: dict[str, Any], prefix: str, renamed: Mapping[str, str]) -> None:
    """Give the keys of an older version's state their names of today, before they are loaded.

    Args:
        state_dict: changed in place.
        prefix: of the module.
        renamed: a name of its own, or of a module in it, and today's.
    """
    for old, new in renamed.items():
        for key in [k for k in state_dict if k == prefix + old or k.startswith(f"{prefix}{old}.")]:
            state_dict[prefix + new + key[len(prefix + old) :]] = state_dict.pop(key)


def bytes_of(tensor: Tensor) -> Tensor:
    """Its values as ``(B,)`` uint8, row by row."""
    whole = tensor.detach().contiguous()
    # one row, or none, of a column has kept the strides of that
    return whole.as_strided((whole.numel(),), (1,)).view(torch.uint8)


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
