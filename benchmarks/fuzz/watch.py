"""One call under watch: what came of it, and what it must never do whatever it is given."""

from __future__ import annotations

import collections
import os
import random
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import metricgrad as mg
from fuzz.inputs import Draws

ROOT = f"{Path(mg.__file__).parent}{os.sep}"
"""Where the library lies; its folder may have the name of the one that it was cloned into."""
LIMIT = 10.0
"""Seconds of the processor's time that a call may take."""
OFTEN = 3
"""How many times one call may say the same."""
WORDS = (
    "scores", "targets", "mask", "groups", "sample_weight", "head_sizes", "metric", "loss", "model", "batch", "block",
    "refactoring", "form", "valid", "optim", "a ", "b ", "x ", "rows", "expected", "classes", "missing", "target",
)  # fmt: skip
"""What a refusal may name, beside the options that were given."""


class Untrue(Exception):  # noqa: N818  (it is no error of the library's own)
    """Something that must hold of a call does not."""


class Hangs(BaseException):
    """A call took longer than the limit; nothing that catches exceptions may catch it."""


@dataclass(frozen=True)
class Found:
    """What came of one call.

    Attributes:
        outcome: ``"value"``, ``"undefined"`` where NaN or silence is documented, ``"overflow"`` where float32 does not
            hold what a loss of scores from 1e20 up is, ``"refused"``, ``"own"`` where the user's own model or loss
            raised, or ``"fault"``.
        fault: what was wrong, without the numbers that differ from call to call, so that faults can be counted.
        said: the choices that made the call, and the message of a refusal.
    """

    outcome: str
    fault: str
    said: dict[str, Any]


def watched(entry: str, call: Callable[[Draws], str], number: int) -> Found:
    """The call of this number at an entry point.

    Args:
        entry: its name, from which, with the number, every choice follows.
        call: makes its choices and the call; returns the outcome, or raises.
        number: of the call.
    """
    draws = Draws(entry, number)
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)
    before = _state()
    outcome, fault = "fault", ""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        old = signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            outcome = call(draws)
        except mg.MetricgradError as error:
            outcome = "refused"
            draws.said["message"] = message = str(error)
            names = [*WORDS, *(str(name) for name in draws.said)]
            if len(message) < 20 or not any(name in message for name in names):
                fault = f"a refusal that names no argument: {message}"
        except Untrue as error:
            fault = str(error)
        except Hangs:
            fault = f"took more than {LIMIT:g} s"
        except Exception as error:
            where = [at for at in traceback.extract_tb(error.__traceback__) if at.filename.startswith(ROOT)]
            at = where[-1] if where else traceback.extract_tb(error.__traceback__)[-1]
            if not where and isinstance(error, AttributeError | NameError | TypeError | KeyError):
                raise  # a mistake of the fuzz itself
            outcome = "fault" if where and where[-1].name != "called" else "own"
            fault = (
                ""
                if outcome == "own"
                else f"{type(error).__name__}: {str(error)[:110]} ({Path(at.filename).name}, {at.name})"
            )
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, old)
    said = collections.Counter(
        str(one.message)[:150] for one in heard if "metricgrad" in str(one.message) or _ours(one)
    )
    if not fault and said and (often := said.most_common(1)[0])[1] > OFTEN:
        fault = f"said {often[1]} times: {often[0]}"
    if not fault and draws.changed():
        fault = "changed what it was handed"
    if not fault and not _equal(before, _state()):
        fault = "moved the global random state"
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        fault = fault or "left the gradient mode changed"
    return Found("fault" if fault else outcome, fault, draws.said)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Hangs


def _ours(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, UserWarning) and "site-packages" not in warning.filename


def _state() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return torch.equal(a[0], b[0]) and a[1:] == b[1:]
