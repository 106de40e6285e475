"""The task: what a comparison runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

import torch
from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import ProblemKind, Range, standard_for
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.metric import Metric
from metricgrad.tasks.split import Splits
from metricgrad.training.batches import Data, check_data, is_pair, pair_of

if TYPE_CHECKING:
    from metricgrad.training.delivery import Asked
    from metricgrad.training.result import FitResult

KINDS: tuple[ProblemKind, ...] = (
    *("binary", "multiclass", "multilabel", "regression"),
    *("retrieval", "keypoints", "tokens", "spans"),
)


class Learn(Protocol):
    """One training of a :class:`Learner`."""

    def __call__(
        self, train: Data, valid: Data, *, params: Mapping[str, float], metric: Metric, decision: Asked, seed: int,
        share: float,
    ) -> FitResult:  # fmt: skip
        """As :func:`metricgrad.fit`; ``share`` in (0, 1] is how much of a whole training it may take."""
        ...


@dataclass(frozen=True)
class Learner:
    """What a task can be learned with beside its network.

    Attributes:
        space: what a study tunes.
        fit: one training.
        summary: what it is, in a line.
    """

    space: Mapping[str, Range]
    fit: Learn
    summary: str


class Task:
    """Data, a model factory, a metric, and the loss people use today.

    Data are either three fixed parts, or a ``load`` that draws the parts anew from a seed. Prefer ``load``: with fixed
    parts, a comparison's interval covers the randomness of training alone, not that of the test items.

    Args:
        name: for tables and messages.
        model: zero-argument factory of a fresh, randomly initialised module.
        train: ``(inputs, targets)`` or ``(inputs, targets, weights)`` of tensors or arrays, a Dataset or a DataLoader.
        valid: the same; chooses hyper-parameters, the epoch and the threshold.
        test: the same; scored once for each seed.
        metric: what the task is judged by, where nothing else is asked for.
        load: ``seed -> (train, valid, test)``, in place of the three parts.
        standard: the loss people use today; by default cross-entropy, the squared error for a regression, that of
            Gaussian maps for key points, that of words for sentences, or the triplet loss for retrieval.
        kind: ``"binary"``, ``"multiclass"``, ``"multilabel"``, ``"regression"``, ``"keypoints"``, ``"tokens"`` (words
            of sentences), ``"spans"`` (starts and ends of answers) or ``"retrieval"`` (the model's scores are
            embeddings); by default from the training targets, never the last four.
        epochs: passes of one run.
        batch_size: items in a step.
        per_class: items of each class in a step, for retrieval, as in :func:`metricgrad.fit`.
        lr: the range of learning rates a study searches.
        weight_decay: the range of weight decays a study searches.
        device: where a comparison trains it, as in :func:`metricgrad.fit`.
        clean_valid: whether the validation part is known to have cleaner labels than the training part;
            ``losses="auto"`` then tries a loss that learns from it.
        summary: one line on what it is.

    Attributes:
        options: what it was told of a table, as plain data; empty for any other task.
        origin: names of the files the data come from, each with its checksum, for a study's report; empty at first.

    Raises:
        MetricgradError: where parts are missing or given twice.

    Example:
        >>> import torch
        >>> x, y = torch.randn(30, 4), torch.arange(30) % 3
        >>> part = (x, y)
        >>> Task("mine", model=lambda: torch.nn.Linear(4, 3), train=part, valid=part, test=part).kind
        'multiclass'
    """

    def __init__(
        self,
        name: str,
        *,
        model: Callable[[], nn.Module],
        train: Data = None,
        valid: Data = None,
        test: Data = None,
        metric: str | Metric | Callable[..., Any] | None = None,
        load: Callable[[int], Splits | tuple[Data, Data, Data]] | None = None,
        standard: str | None = None,
        kind: ProblemKind | None = None,
        epochs: int = 20,
        batch_size: int = 64,
        per_class: int | None = None,
        lr: Range | None = None,
        weight_decay: Range | None = None,
        device: str = "auto",
        clean_valid: bool = False,
        summary: str = "",
    ) -> None:
        fixed = (train, valid, test)
        given = sum(part is not None for part in fixed)
        if given != (0 if load else 3):
            raise MetricgradError(
                f"task {name!r} has {given} of train, valid and test{' and a load' if load else ''}; give all three "
                "parts, or load(seed) alone"
            )
        if kind is not None and kind not in KINDS:
            raise MetricgradError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        for part_name, part in zip(("train", "valid", "test"), fixed if given else (), strict=False):
            check_data(part, f"task {name!r}: {part_name}")
        given_model = cast("object", model)
        if isinstance(given_model, nn.Module) or not callable(given_model):
            made = type(given_model).__name__ if isinstance(given_model, nn.Module) else "Network"
            raise MetricgradError(
                f"task {name!r}: model is a {type(given_model).__name__}; give a zero-argument factory that makes a "
                f"fresh one for each run: model=lambda: {made}(...)"
            )
        self.name, self.model, self.metric, self.summary = name, model, metric, summary
        self.redraws, self.clean_valid = load is not None, clean_valid
        self.options: dict[str, str | list[str]] = {}
        self.origin: dict[str, str] = {}
        self._load: Callable[[int], Any] = load or (lambda seed: fixed)
        self._kind: ProblemKind | None = kind
        self._standard = standard
        self.epochs, self.batch_size, self.per_class, self.device = epochs, batch_size, per_class, device
        self.lr = lr or Range(3e-4, 1e-1, default=5e-3)
        self.weight_decay = weight_decay or Range(1e-6, 1e-1, default=1e-4)

    def __repr__(self) -> str:
        return f"Task({self.name}, {self.kind}, metric={self.metric})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, in the order of their numbers; none where they have no names."""
        return ()

    @property
    def columns(self) -> Mapping[str, str]:
        """The types of the columns that are learned from, by their names, where the data are a table."""
        return {}

    def describe(self) -> list[str]:
        """What is known of the data, a line for each thing."""
        sizes = [size for part in self.load(0) if (size := _size(part)) is not None]
        told = [f"{self.kind}; {self.summary}" if self.summary else self.kind]
        if len(sizes) == 3:
            told.append(
                "parts: {:,} to train on, {:,} to choose by and {:,} to judge by; ".format(*sizes)
                + ("drawn anew with every seed" if self.redraws else "the same for every seed")
            )
        return told

    def load(self, seed: int) -> tuple[Data, Data, Data]:
        """Training, validation and test part of one draw; the same for every seed where the parts are fixed."""
        parts = self._load(seed)
        if len(parts) != 3:
            raise MetricgradError(
                f"load of task {self.name!r} gives {len(parts)}; expected three parts: train, valid and test, as "
                "metricgrad.tasks.split.split(inputs, targets, seed) makes them"
            )
        train, valid, test = parts
        return train, valid, test

    @property
    def kind(self) -> ProblemKind:
        """The kind of problem, which decides which losses serve it."""
        return self._kind or _kind_of(self.name, self.load(0)[0])

    @property
    def standard(self) -> str:
        """The loss people use today."""
        return self._standard or standard_for(self.kind)

    @property
    def learners(self) -> Mapping[str, Learner]:
        """What it can be learned with beside its network, by names that ``losses`` may have; none here."""
        return {}

    def judged_by(self, metric: str | Metric | Callable[..., Any] | None = None) -> Metric:
        """The metric asked for, or the task's own."""
        if (chosen := metric if metric is not None else self.metric) is None:
            raise MetricgradError(f"task {self.name!r} has no metric of its own; name one, such as metric='accuracy'")
        return as_metric(chosen)

    def check_loss(self, spec: str) -> None:
        """Raise where a loss does not serve this kind of problem."""
        from metricgrad.systems.by_name import find  # all losses there are, which a list of tasks needs none of

        entry, _ = find(spec, self.learners, kind=self.kind)
        if self.kind not in entry.kinds:
            raise MetricgradError(
                f"loss {spec!r} serves {' and '.join(sorted(entry.kinds))} problems, and task {self.name!r} is "
                f"{self.kind}; its standard loss is {self.standard!r}"
            )


def _size(part: Data) -> int | None:
    """Items of a part, where it says how many."""
    if is_pair(part):
        return len(part[1])
    whole = getattr(part, "dataset", part)
    return len(whole) if hasattr(whole, "__len__") else None


def _kind_of(name: str, train: Data) -> ProblemKind:
    if not is_pair(train):
        raise MetricgradError(
            f"task {name!r}: the kind of problem cannot be seen from a {type(train).__name__}; say it: kind= one "
            f"of {', '.join(map(repr, get_args(ProblemKind)))}"
        )
    _, targets = pair_of(train, f"task {name!r}: train")
    binary = is_binary(targets)
    if targets.ndim == 1:
        if targets.is_floating_point() and not binary:
            return "regression"
        return "binary" if binary else "multiclass"
    return "multilabel" if binary else ("regression" if targets.is_floating_point() else "multiclass")


def to_float(values: Any) -> torch.Tensor:
    """A float32 tensor."""
    return torch.as_tensor(values).to(torch.float32)
