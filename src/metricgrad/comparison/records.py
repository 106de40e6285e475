"""The results file: one JSON line for each finished run, never torn, shared by all who work on the study."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from metricgrad.errors import MetricgradError
from metricgrad.json_types import fits, parse
from metricgrad.losses.registry import Role
from metricgrad.tables.asked import changes
from metricgrad.training.run_folder.files import make_folder
from metricgrad.training.run_folder.fingerprints import differences
from metricgrad.writing import append, replacing, write_text

Record = dict[str, Any]
MOMENT = 60.0
"""Seconds after which whoever holds a folder is taken to hold it for good; a line takes milliseconds."""
SCHEMA = 2
"""Of the lines and of the table; 1 had values under a threshold of its own, or under no decision, and did not say."""


@contextmanager
def locked(folder: Path, patience: float = 0.0, name: str = ".lock") -> Iterator[None]:
    """Hold the folder against other processes; a killed process lets go of it.

    Args:
        folder: made where it is not there.
        patience: seconds to wait for another process; below 0 as long as it takes.
        name: what of the folder is held.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    lock = FileLock(folder / name, timeout=patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise MetricgradError(
            f"out={str(folder)!r} is in use by another process; wait until it ends, or choose another out"
        ) from error
    except OSError as error:
        raise MetricgradError(f"cannot write in out={str(folder)!r}: {error.strerror}; choose another out") from error
    try:
        yield
    finally:
        lock.release()


class Records:
    """``results.jsonl`` of a study, which several processes may work on.

    A line is written by one call, flushed and synced before the next run begins, while the folder is held. A process
    killed while writing leaves at most one line without its newline; whoever holds the folder next takes that line off,
    and its run is done again. Whole lines that are no records of this study are set aside in
    ``results.jsonl.rejected``, with a warning, and their runs are done again too: a run follows from its seed, so the
    table is what it would have been. So a run that two processes trained is counted once.

    Args:
        folder: of the study, on a file system whose locks hold for all who work there.
        config: what the study is; another one in the same folder is refused.

    Raises:
        MetricgradError: for a folder that holds another study, or files that can be neither read nor mended.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.path = folder / "results.jsonl"
        self._spaces: dict[str, Any] = config.get("spaces", {})
        self._records: list[Record] = []
        self._size = -1
        with locked(folder, MOMENT):
            _check_config(folder, config)
            self._refresh()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for a moment; all lines that anybody wrote are then known.

        Raises:
            MetricgradError: where somebody else holds it for longer than a moment.
        """
        with locked(self.path.parent, MOMENT):
            self._refresh()
            yield

    def _refresh(self) -> None:
        if self._size != (self.path.stat().st_size if self.path.exists() else 0):
            self._records = self._open()
            self._size = self.path.stat().st_size if self.path.exists() else 0

    def _open(self) -> list[Record]:
        raw = _bytes_of(self.path)
        if raw is None:
            return []
        whole = raw[: raw.rfind(b"\n") + 1]
        records: list[Record] = []
        kept: list[bytes] = []
        rejected: list[tuple[int, bytes, str]] = []
        for number, line in enumerate(whole.splitlines(keepends=True), 1):
            try:
                record = _record(line, self._spaces)
                if any("trial" in record and _same_trial(record, other) for other in records):
                    raise MetricgradError("its trial is there already")
                records.append(record)
                kept.append(line)
            except MetricgradError as error:
                rejected.append((number, line, str(error)))
        if rejected:
            aside = self.path.with_name(self.path.name + ".rejected")
            with replacing(aside) as part:
                part.write_bytes((_bytes_of(aside) or b"") + b"".join(line for _, line, _ in rejected))
            number, _, reason = rejected[0]
            warnings.warn(
                f"{str(self.path)!r}: {len(rejected)} lines are no records (line {number}: {reason}); they are set "
                f"aside in {aside.name}, and their runs are done again",
                stacklevel=4,
            )
        if rejected or len(whole) < len(raw):
            with replacing(self.path) as part:
                part.write_bytes(b"".join(kept))
        return records

    def add(self, record: Record) -> Record:
        """Append one record durably, and return it as a reader of the file would get it; the one that is there, if any.

        Raises:
            MetricgradError: where it cannot be written; the lines before it are then what they were.
        """
        with self.held():
            there = next((other for other in self._records if _same(record, other)), None)
            return self._append(record) if there is None else there

    def _append(self, record: Record) -> Record:
        line = json.dumps(record, allow_nan=False) + "\n"
        self._size = append(self.path, line.encode())
        self._records.append(json.loads(line))
        return self._records[-1]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def trials(self, loss: str) -> list[Record]:
        """The trials of a loss, in order."""
        return sorted((r for r in self._records if r["loss"] == loss and "trial" in r), key=lambda r: r["trial"])

    def run(self, loss: str, seed: int, params: dict[str, float]) -> Record | None:
        """The run of a loss with a seed and these parameters; one with others was chosen by fewer or more trials."""
        mine = (r for r in self._records if r["loss"] == loss and r.get("seed") == seed)
        return next((r for r in mine if r["params"] == params), None)


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(json.dumps(config))
    results = folder / "results.jsonl"
    raw = _bytes_of(path)
    reason = "" if raw is None else _torn(raw)
    if raw is None or reason:
        if _bytes_of(results):
            raise MetricgradError(
                f"{str(results)!r} has runs, and config.json, which says of which study they are, "
                f"{f'is torn ({reason})' if reason else 'is missing'}; put it back, or choose another out"
            )
        write_text(path, json.dumps(config, indent=1))
        return
    saved = parse(raw)
    if saved.get("schema", 1) != config.get("schema", 1):
        raise MetricgradError(
            f"out={str(folder)!r} holds a study of schema {saved.get('schema', 1)!r:.20}, whose runs do not say what "
            f"they reach with and without a decision, and this version writes schema {SCHEMA}; choose another out"
        )
    for one in (saved, config):
        one.pop("trials", None)  # an earlier version wrote it; a study may be given more of them
    # a loss may join a study later; one that is already there must be what it was, with the space it had
    by_loss = ("losses", "spaces", "code")
    joined = {key: {**saved.get(key, {}), **config.get(key, {})} for key in by_loss}
    kept = {key: {**config.get(key, {}), **saved.get(key, {})} for key in by_loss}
    if found := _another({**saved, **kept}, {**config, **joined}):
        raise MetricgradError(f"out={str(folder)!r} holds another study: {found}. Choose another out")
    if any(joined[key] != saved.get(key, {}) for key in by_loss):
        write_text(path, json.dumps({**saved, **joined}, indent=1))


def _another(saved: dict[str, Any], config: dict[str, Any]) -> str:
    """What makes it another study: what was asked of a table, which says more than the model and data it led to."""
    then, now = saved.get("options"), config.get("options", {})
    found = _differences(saved, config, "options")
    if not found or not fits(then, dict[str, str | list[str]]) or not (asked := changes(then or {}, now)):
        return found
    return "; ".join(filter(None, [*asked, _differences(saved, config, "options", "model", "data")]))


def _differences(saved: dict[str, Any], config: dict[str, Any], *without: str) -> str:
    return differences(*({key: one[key] for key in one if key not in without} for one in (saved, config)))


class _Line(TypedDict):
    """What every line has; trials have ``trial``, and ``share`` where they were shorter than a whole training; failed
    runs have ``failed``, final ones what :class:`_Final` has.

    ``valid`` is the metric on validation rows under a decision that was fitted without them, ``valid_undecided`` that
    of the plain reading, each row at the epoch that is best without it, ``decision`` the kind that was chosen.
    """

    loss: str
    role: Role
    valid: float | None
    valid_undecided: float | None
    decision: str | None
    seconds: float | None
    params: dict[str, float]


class _Final(TypedDict):
    """What a final run has beside: the metric on the test part, with the decision and without, from the same scores."""

    seed: int
    test: float | None
    test_undecided: float | None


def _record(line: bytes, spaces: Mapping[str, Any]) -> Record:
    """One line as a record.

    Raises:
        MetricgradError: saying why it is none.
    """
    record = parse(line)
    if not isinstance(record, dict):
        raise MetricgradError(f"it is {line.decode(errors='replace').strip()[:40]!r}")
    own = {"trial": int} if "trial" in record else get_type_hints(_Final)
    own |= {"share": float} if "trial" in record and "share" in record else {}
    hints = {**get_type_hints(_Line), **own, **({"failed": str} if "failed" in record else {})}
    for name in hints:
        if name not in record:
            raise MetricgradError(f"it has no {name!r}")
        if not fits(record[name], hints[name]):
            raise MetricgradError(f"its {name!r} is {record[name]!r:.40}")
    if unknown := record.keys() - hints.keys():
        raise MetricgradError(f"it has {min(unknown)!r:.40}, which no run has")
    if min(record.get("trial", 0), record.get("seed", 0)) < 0:
        raise MetricgradError("its number is below 0")
    if not 0 < record.get("share", 1.0) <= 1:
        raise MetricgradError("its share of a whole training is not between 0 and 1")
    space = spaces.get(record["loss"])
    if space is not None and "trial" in record:
        params = record["params"]
        inside = params.keys() == space.keys() and all(
            not isinstance(bounds, dict) or bounds["low"] <= params[name] <= bounds["high"]
            for name, bounds in space.items()
        )
        if not inside:
            raise MetricgradError("its params are not of the study's space")
    return record


def _same_trial(a: Record, b: Record) -> bool:
    return a["loss"] == b["loss"] and a["trial"] == b.get("trial")


def _same(a: Record, b: Record) -> bool:
    """Whether two records are of one run."""
    if "trial" in a:
        return _same_trial(a, b)
    return all(a[key] == b.get(key) for key in ("loss", "seed", "params"))


def _torn(raw: bytes) -> str:
    """Why a config is none, or nothing."""
    try:
        value = parse(raw)
    except MetricgradError as error:
        return str(error)
    return "" if fits(value, dict[str, Any]) and all(
        fits(value.get(key, {}), dict[str, Any]) for key in ("losses", "spaces", "code")
    ) else "it holds something else"  # fmt: skip


def _bytes_of(path: Path) -> bytes | None:
    """What a file holds; None where there is none.

    Raises:
        MetricgradError: where it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MetricgradError(f"cannot read {str(path)!r}: {error.strerror}; mend it, or choose another out") from error
