"""Every cell of the fence on the pretend device, against the CPU: ``python -m tests.devices.every [part of a name]``.

Metrics with and without context, refactorings, interpolations, forms under aligners, losses by name, fits. What differs
in a number or in what is refused is printed, and the last line counts.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tests.devices import pretend_device
from tests.fence.cells import Found, cells
from tests.fixtures import trainings

#: of the largest entry: some paths of the device are others than the CPU's, and trainings amplify rounding
_NEAR = 1e-4


def faults(named: Iterable[tuple[str, Callable[[], Found]]]) -> list[str]:
    """What is another on the device, a line for each cell."""
    found = []
    for name, cell in named:
        here, there = run(cell, "cpu"), run(cell, pretend_device.DEVICE)
        if why := _differs(here, there):
            found.append(f"{name}: {why}")
    return found


def run(cell: Callable[[], Found], device: str) -> Found | Exception:
    trainings.DEVICE = device
    try:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {name: value.detach().cpu() for name, value in cell().items()}
    except Exception as error:
        return error
    finally:
        trainings.DEVICE = "cpu"


def _differs(here: Found | Exception, there: Found | Exception) -> str | None:
    if isinstance(there, Exception):
        if isinstance(here, Exception) and type(here) is type(there):
            return None
        where = traceback.extract_tb(there.__traceback__)[-1]
        return f"{type(there).__name__} at {where.filename}:{where.lineno}: {str(there)[:200]}"
    if isinstance(here, Exception):
        return f"the CPU refuses it: {here}"
    apart = {name: _apart(value, there[name]) for name, value in here.items()}
    worst = max(apart, key=lambda name: apart[name])
    return f"{worst} is {apart[worst]:.1e} away" if apart[worst] > _NEAR else None


def _apart(here: Tensor, there: Tensor) -> float:
    if here.shape != there.shape or here.dtype != there.dtype:
        return float("inf")
    here, there = here.double(), there.double()
    size = here[here.isfinite()].abs().max() if here.isfinite().any() else torch.tensor(1.0)
    near = torch.isclose(here, there, rtol=0, atol=float(_NEAR * size) + 1e-12, equal_nan=True)
    return (
        0.0
        if bool(near.all())
        else float(((here - there).abs() / size.clamp(min=1e-12)).nan_to_num(nan=torch.inf).max())
    )


def main(part: str = "") -> int:
    """All whose name contains ``part``; how many differ."""
    pretend_device.enable()
    count = differing = 0
    for name, cell in cells():
        if part not in name:
            continue
        count += 1
        for line in faults([(name, cell)]):
            differing += 1
            print(line, flush=True)
    print(f"{count} cells, {differing} differ from the CPU", flush=True)
    return differing


if __name__ == "__main__":
    sys.exit(bool(main(*sys.argv[1:])))
