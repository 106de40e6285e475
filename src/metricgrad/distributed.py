r"""Every rank: in data-parallel training a loss is one of the rows of all ranks together.

A metric of a set is no mean of the metrics of its parts, so that a loss of each rank's own rows trains on another
metric. Here every rank gathers the scores of all, in the order of the ranks, and computes the same loss of them.

With W ranks, scores :math:`s = (s_1, \dots, s_W)` of parameters that all share, and :math:`J_r` the Jacobian of rank
r's scores, the gradient of the joined loss is :math:`\sum_r J_r^\top \partial L / \partial s_r`. DDP and FSDP leave the
mean over ranks of what each backward pass puts there, so each puts :math:`W J_r^\top \partial L / \partial s_r`. As
every rank has the whole L, nothing is communicated on the way back.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.json_types import unequal
from metricgrad.serialization import bytes_of

T = TypeVar("T")
Context = dict[str, Tensor | None]
Parts = dict[str, tuple[torch.dtype, torch.Size]]

_NUMBERS = 16
"""Of what a rank says first: two, and the rows of each tensor, of which there are six at most."""

_apart: ContextVar[bool] = ContextVar("apart", default=False)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Inside, nothing is gathered: sets are joined already, or are this rank's own affair."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


class Alike(Protocol):
    """What a loss has that must be the same on every rank."""

    steps: Tensor

    def state_dict(self) -> dict[str, Any]:
        """All it has learned and counted."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take it from another, with the seed."""
        ...

    def description(self) -> dict[str, Any]:
        """What it is of."""
        ...


@dataclass(frozen=True)
class _Offer:
    """What a rank says before it sends tensors: their dtypes and shapes by name, or why it cannot.

    Attributes:
        parts: by name.
        settled: whether its loss was brought to the state of the first rank's.
        error: what was wrong with its tensors.
        loss: what its loss is of.
    """

    parts: Parts
    settled: bool
    error: str | None = None
    loss: Mapping[str, Any] = field(default_factory=dict)


class Ranks:
    """The ranks whose rows a loss is of.

    Args:
        gather: False keeps the sets of each rank apart, and nothing is communicated.
        process_group: of the data-parallel ranks, where they are not all there are (as beside tensor parallelism).
    """

    def __init__(self, gather: bool = True, process_group: dist.ProcessGroup | None = None) -> None:
        self.gather, self.process_group = gather, process_group
        self._settled = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """A copy talks to the same ranks."""
        return Ranks(self.gather, self.process_group)

    @property
    def count(self) -> int:
        """How many there are; 1 where nothing is gathered."""
        if not self.gather or _apart.get() or not (dist.is_available() and dist.is_initialized()):
            return 1
        return max(1, dist.get_world_size(self.process_group))  # -1 on a rank that is not among them

    def joined(self, loss: Alike, read: Callable[[], tuple[Tensor, Tensor, Context]]) -> tuple[Tensor, Tensor, Context]:
        """The rows of all ranks, in their order; the gradient goes to this rank's, times the number of ranks.

        At the first call every loss takes the first rank's seed and state, so that all compute the same.

        Args:
            loss: that is called.
            read: gives the scores of this rank, ``(N, ...)`` where N may be 0 or another number than on other ranks,
                their targets, and what comes along by name; the same names on every rank.

        Raises:
            MetricgradError: on every rank alike, where one of them cannot read its rows, or has others or another loss
                than the first; where one does not come, after the process group's timeout.
        """
        if self.count == 1:
            return read()
        own, error = _read(read)
        parts = {name: (tensor.dtype, tensor.shape) for name, tensor in own.items()}
        offers = self._offers(_Offer(parts, self._settled, error, {} if self._settled else loss.description()), loss)
        for rank, offer in enumerate(offers):
            if offer.error is not None:
                raise MetricgradError(f"rank {rank} could not call the loss: {offer.error}")
            if found := unequal(offer.loss, offers[0].loss):
                told = "; ".join(f"{where} is {one!r:.80}, and on rank 0 {first!r:.80}" for where, one, first in found)
                raise MetricgradError(f"rank {rank} has another loss: {told}; make the same loss on every rank")
        longest = _common(offers)
        if not all(offer.settled for offer in offers):
            loss.load_state_dict(self.of_first(_on_cpu(loss.state_dict())))
            self._settled = True
        here, found = dist.get_rank(self.process_group), self._gathered(own, offers)
        own["scores"] = _Times.apply(own["scores"], len(offers))
        for name in own:
            parts = [own[name] if rank == here else rows[name] for rank, rows in enumerate(found)]
            own[name] = torch.cat([_padded(part, longest[name]) for part in parts])
        return own.pop("scores"), own.pop("targets"), {**own}

    def mean(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The mean of each over the ranks."""
        found = [tensor.detach().clone() for tensor in tensors]
        if (count := self.count) > 1 and found:
            with _in_one_sentence():
                flat = torch.cat([tensor.reshape(-1) for tensor in found])
                dist.all_reduce(flat, group=self.process_group)
            parts = (flat / count).split([tensor.numel() for tensor in found])
            found = [part.view_as(tensor) for part, tensor in zip(parts, found, strict=True)]
        return found

    def of_first(self, value: T) -> T:
        """What the first rank says."""
        if self.count == 1:
            return value
        box = [value]
        with _in_one_sentence():
            dist.broadcast_object_list(box, group=self.process_group, group_src=0)
        return box[0]

    def of_all(self, value: T) -> list[T]:
        """What each rank says."""
        return [value] if self.count == 1 else self._exchanged(value)

    def total(self, number: int | None) -> int | None:
        """The sum over the ranks; None where one does not know."""
        numbers = [part for part in self.of_all(number) if part is not None]
        return sum(numbers) if len(numbers) == self.count else None

    def share(self, number: int | None) -> int | None:
        """This rank's share of a number, rounded up."""
        return None if number is None else -(-number // self.count)

    def _offers(self, own: _Offer, loss: Alike) -> list[_Offer]:
        """Those of all ranks, by numbers alone where they differ in how many rows they have, as they mostly do."""
        same = zlib.crc32(repr([(name, dtype, shape[1:]) for name, (dtype, shape) in own.parts.items()]).encode())
        rows = [shape[0] for _, shape in own.parts.values()]
        said = torch.tensor([own.settled and own.error is None, same, *rows], device=loss.steps.device)
        found = [said.new_zeros(_NUMBERS) for _ in range(self.count)]
        with _in_one_sentence():
            dist.all_gather(found, nn.functional.pad(said, (0, _NUMBERS - len(said))), group=self.process_group)
        numbers = torch.stack(found).tolist()
        if any(not good or other != same for good, other, *_ in numbers):
            return self._exchanged(own)
        return [_Offer(_with_rows(own.parts, each), True) for _, _, *each in numbers]

    def _exchanged(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.count
        with _in_one_sentence():
            dist.all_gather_object(found, value, group=self.process_group)
        return found

    def _gathered(self, own: Mapping[str, Tensor], offers: list[_Offer]) -> list[dict[str, Tensor]]:
        """The tensors of every rank, all of a rank's as one row of bytes, filled up to the longest."""
        device = own["scores"].device
        sent = torch.cat([bytes_of(part.to(device)) for part in own.values()])
        sizes = [[_size(*part) for part in offer.parts.values()] for offer in offers]
        most = max(map(sum, sizes))
        found = [sent.new_empty(most) for _ in offers]
        with _in_one_sentence():
            dist.all_gather(found, nn.functional.pad(sent, (0, most - len(sent))), group=self.process_group)
        rows: list[dict[str, Tensor]] = []
        for offer, size, received in zip(offers, sizes, found, strict=True):
            pieces = received[: sum(size)].split(size)
            rows.append({
                name: piece.clone().view(dtype).view(shape).to(own[name].device)
                for piece, (name, (dtype, shape)) in zip(pieces, offer.parts.items(), strict=True)
            })  # fmt: skip
        return rows


def bare(model: nn.Module) -> nn.Module:
    """The module that DDP wraps: its own forward pass expects a backward pass after it."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def _read(read: Callable[[], tuple[Tensor, Tensor, Context]]) -> tuple[dict[str, Tensor], str | None]:
    """This rank's tensors by name; none, and why, where there is something wrong with them."""
    try:
        scores, targets, context = read()
        own = {"scores": scores, "targets": targets, **{k: v for k, v in context.items() if v is not None}}
        for name, value in own.items():
            check_tensor(name, value)
            if not value.ndim:
                raise MetricgradError(f"{name} is a single number; pass one for each row")
    except MetricgradError as error:
        return {}, str(error)
    return own, None


def _common(offers: list[_Offer]) -> dict[str, list[int]]:
    """The shape of a row of each tensor, filled up to the longest where a mask says what is filled.

    Raises:
        MetricgradError: where they differ in another way.
    """
    first = offers[0].parts
    for rank, offer in enumerate(offers):
        if offer.parts.keys() != first.keys():
            raise MetricgradError(
                f"rank 0 passes {', '.join(first)}, and rank {rank} {', '.join(offer.parts)}; pass the same on every "
                "rank (a mask of True, weights of 1)"
            )
        for name, (dtype, shape) in offer.parts.items():
            if dtype != first[name][0] or len(shape) != len(first[name][1]):
                raise MetricgradError(
                    f"{name} are {dtype} of shape {tuple(shape)} on rank {rank}, and {first[name][0]} of shape "
                    f"{tuple(first[name][1])} on rank 0; they may differ in the number of rows alone"
                )
    longest, ragged = {}, {}
    for name in first:
        rows = [offer.parts[name][1][1:] for offer in offers]
        longest[name] = [max(sizes) for sizes in zip(*rows, strict=True)]
        ragged[name] = [max(sizes) for sizes in zip(*rows, strict=True) if len(set(sizes)) > 1]
    if any(ragged.values()) and not ragged["scores"] == ragged["targets"] == ragged.get("mask"):
        name = next(name for name in ragged if ragged[name])
        shapes = ", ".join(str(tuple(offer.parts[name][1])) for offer in offers)
        raise MetricgradError(
            f"{name} have the shapes {shapes} on the ranks; pad their rows to one shape, or pass a mask of theirs, "
            "(N, T) for sentences: then they are padded here"
        )
    return longest


def _with_rows(parts: Parts, rows: list[int]) -> Parts:
    """The same with so many rows each."""
    return {name: (d, torch.Size((n, *s[1:]))) for (name, (d, s)), n in zip(parts.items(), rows, strict=False)}


def _padded(part: Tensor, row: list[int]) -> Tensor:
    short = [most - size for most, size in zip(row, part.shape[1:], strict=True)]
    return nn.functional.pad(part, [n for missing in reversed(short) for n in (0, missing)]) if any(short) else part


def _size(dtype: torch.dtype, shape: torch.Size) -> int:
    return shape.numel() * dtype.itemsize


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in state.items()}


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What a collective raises where a rank does not take part."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise MetricgradError(
            "another rank did not call this loss within the process group's timeout, or has ended: every rank calls it "
            "as often, with no rows where it has none (scores[:0]); or make it with gather=False, which keeps each "
            f"rank's rows apart ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


class _Times(torch.autograd.Function):
    """The same, with so many times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, times: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.times = times
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient * ctx.times, None
