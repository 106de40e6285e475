"""``plan.json`` of a study's folder: what was found out once; all else is a function of seed and plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from metricgrad.comparison.look import Look
from metricgrad.comparison.records import locked
from metricgrad.comparison.runs.budget import Afforded
from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.writing import write_text


class _Found(TypedDict, total=False):
    look: Look | None
    look_of: str
    afforded: Afforded


class Plan:
    """What is in the file; asked for what is not there, it finds it out and writes it down.

    Whoever finds something out keeps other workers waiting for it, so that it is found out once.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plan.json"

    def look(self, of: str, find: Callable[[], Look | None]) -> Look | None:
        """How the parts of the task fit a first training.

        Args:
            of: what tells this task and metric from others: the look of another one is not taken.
            find: makes it.

        Raises:
            MetricgradError: for a file that is no plan.
        """
        with locked(self.path.parent, -1, ".plan.lock"):
            found = self._read()
            if "look" in found and found.get("look_of") == of:
                return found["look"]
            looked = found["look"] = find()
            found["look_of"] = of
            self._write(found)
        return looked

    def afforded(self, find: Callable[[], Afforded]) -> Afforded:
        """The number of runs that the budget came to.

        Raises:
            MetricgradError: for a file that is no plan.
        """
        with locked(self.path.parent, -1, ".plan.lock"):
            found = self._read()
            if "afforded" not in found:
                found["afforded"] = find()
                self._write(found)
        return found["afforded"]

    @property
    def is_afforded(self) -> bool:
        """Whether the budget came to a number of runs before."""
        return "afforded" in self._read()

    def _read(self) -> _Found:
        try:
            found = parse(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise MetricgradError(f"cannot read {str(self.path)!r}: {error.strerror}; choose another out") from error
        except MetricgradError as error:
            raise MetricgradError(self._no_plan(str(error))) from error
        if not fits(found, _Found):
            raise MetricgradError(self._no_plan("it holds something else"))
        return found

    def _no_plan(self, why: str) -> str:
        return f"{str(self.path)!r} is no plan of a study ({why}); put it back, or choose another out"

    def _write(self, found: _Found) -> None:
        write_text(self.path, json.dumps(found, indent=1))
