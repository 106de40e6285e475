"""Files that are either the old one or the whole new one, whatever happens while they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from metricgrad.errors import MetricgradError
from metricgrad.processes import may_run, this_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    After a failure, a kill or a power cut the old file is what it was. What a process of this machine that was killed
    had begun to write in its place is removed. A link goes on to point to its file.

    Raises:
        MetricgradError: in one sentence, where the block or the exchange meets the limits of the disk or of one's
            rights; the old file is then untouched, or, where only the folder could not be synced, the new one there.
    """
    asked, path = Path(path), Path(os.path.realpath(path))
    if path.is_dir():
        raise MetricgradError(f"cannot write {str(asked)!r}: it is a folder; name a file")
    machine, process = this_process()  # another one may write the same file now
    part = path.with_name(f"{path.name}.{machine}.{process}.part")
    _sweep(path)
    try:
        try:
            part.touch()
            mode = part.stat().st_mode  # safetensors makes files that nobody else may read
            yield part
            part.chmod(mode)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save says RuntimeError where a disk is full
        raise MetricgradError(f"cannot write {str(asked)!r}: {_reason(error)}; {_kept(path)}") from error
    try:
        _settle(path.parent)
    except OSError as error:
        raise MetricgradError(
            f"{str(asked)!r} is written whole, but its folder cannot be synced: {error.strerror}; it may not outlast a "
            "power cut: write it again"
        ) from error


def append(path: Path, data: bytes) -> int:
    """Append to a file, durably, and return how long it is then.

    Raises:
        MetricgradError: where the disk or one's rights do not allow it; the file is then what it was.
    """
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, before)
        raise MetricgradError(
            f"cannot write {str(path)!r}: {error.strerror}; what it holds is whole, and the same call goes on from it"
        ) from error
    return before + len(data)


def new_figure(width: float, height: float) -> Figure:
    """An empty matplotlib figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a matplotlib figure in the format that the path's ending names, whole or not at all; PNG where none.

    Raises:
        MetricgradError: see :func:`replacing`, and for an ending that matplotlib does not know.
    """
    ending = Path(path).suffix[1:] or "png"
    if ending not in (known := figure.canvas.get_supported_filetypes()):
        raise MetricgradError(f"cannot write {str(path)!r}: .{ending} is none of {', '.join(sorted(known))}")
    with replacing(path) as part:
        figure.savefig(part, dpi=130, format=ending)
    return Path(path)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MetricgradError: see :func:`replacing`.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _sweep(path: Path) -> None:
    """Remove the parts of a file whose processes are known to have ended."""
    named = re.compile(rf"{re.escape(path.name)}\.(.+)\.(\d+)\.part")
    with suppress(OSError):  # whether anything can be written there is seen by writing
        for each in path.parent.iterdir():
            if (found := named.fullmatch(each.name)) and not may_run(found[1], int(found[2])):
                each.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Make the exchange of names itself last through a power cut, where folders can be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reason(error: BaseException) -> str:
    below = error.__cause__ or error.__context__
    if isinstance(below, OSError) and not isinstance(error, OSError):
        error = below  # what torch met, in place of where in its code it was
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]


def _kept(path: Path) -> str:
    try:
        there = path.exists()
    except OSError:
        there = False
    return "the file that was there is untouched" if there else "nothing was written"
