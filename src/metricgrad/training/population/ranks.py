"""Where the children of a population are: all in this process, or one on each rank of torch.distributed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metricgrad.aligners.knobs.controller import KnobTurner
from metricgrad.aligners.knobs.observation import WRITTEN, Seen
from metricgrad.aligners.knobs.state import Child
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import Form
from metricgrad.training.population.children import Children, Looped

_MOST_AXES = 4
_COLUMNS = ("epoch", "train_loss", "valid", "seconds", "threshold")


@dataclass
class Kept:
    """What is kept of a child: the weights that were best on validation, and one row for each epoch."""

    value: float = math.nan
    threshold: float | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class Alone:
    """All children in this process.

    Attributes:
        children: how many there are.
        own: the numbers of those that are here.
    """

    def __init__(self, children: int) -> None:
        self.children, self.own = children, list(range(children))

    def agree(self, aligner: KnobTurner, forms: Sequence[Form], settings: Sequence[float]) -> None:
        """One process agrees with itself."""

    def shared(self, looks: Sequence[Seen | None], memories: Sequence[Child], forms: Sequence[Form]) -> list[Seen]:
        """What was seen of every child that has seen something."""
        return [one for one in looks if one is not None]

    def copy(self, group: Children, forms: Sequence[Form], best: int, worst: int) -> None:
        """One child to another: weights, buffers, moments and form."""
        group.copy(best, worst)
        forms[worst].load_state_dict(forms[best].state_dict())

    def every(self, values: list[float]) -> list[float]:
        """One number of every child."""
        return values

    def outcome(self, models: Sequence[nn.Module], kept: Sequence[Kept]) -> list[tuple[nn.Module, Kept]]:
        """The model of every child, and what is kept of it."""
        return list(zip(models, kept, strict=True))


class Ranks:
    """One child on each rank of the default process group.

    What a look wrote into a child's memory goes to all ranks, as numbers, in two gathers a look; from it every rank
    takes the same decisions for all children, by the same policy with the same draws. A rank holds the forms of the
    other children for their knobs alone, which move as they do there.

    Attributes:
        children: the number of ranks.
        own: this rank, in a list.
    """

    def __init__(self) -> None:
        self.children, self.own = dist.get_world_size(), [dist.get_rank()]
        nccl = dist.get_backend() == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

    @classmethod
    def joined(cls, children: int | None) -> Ranks:
        """The default group.

        Raises:
            MetricgradError: where there is none, or not one rank for each child.
        """
        if not (dist.is_available() and dist.is_initialized()):
            raise MetricgradError(
                "ranks=True needs torch.distributed's default group: call torch.distributed.init_process_group first, "
                "in a script that torchrun starts"
            )
        here = cls()
        if children not in (None, here.children):
            raise MetricgradError(f"children is {children} on {here.children} ranks; leave it out, or give one a rank")
        return here

    def agree(self, aligner: KnobTurner, forms: Sequence[Form], settings: Sequence[float]) -> None:
        """Refuse ranks that were called with different settings, policies or knobs.

        Raises:
            MetricgradError: on every rank.
        """
        tensors = [value for value in aligner.state_dict().values() if isinstance(value, Tensor)]
        knobs = [float(knob.parameter) for form in forms for knob in form.knobs().values()]
        sums = [float(sum(value.double().sum() for value in tensors)), math.fsum(knobs), aligner.seed, aligner.periods]
        every = self._gather(torch.tensor([*sums, aligner.ticks, *settings], dtype=torch.float64))
        if any(not torch.equal(one, every[0]) for one in every):
            raise MetricgradError(
                "the ranks were called with different arguments, seeds or policies; give every rank the same ones"
            )

    def shared(self, looks: Sequence[Seen | None], memories: Sequence[Child], forms: Sequence[Form]) -> list[Seen]:
        """What was seen of every child that has seen something; the others' memories become what they are there."""
        (own,) = looks
        mine = memories[self.own[0]].memory
        shapes = torch.full((len(WRITTEN) + 1, 1 + _MOST_AXES), -1.0, dtype=torch.float64)
        for row, name in zip(shapes, WRITTEN, strict=False):
            if name in mine:
                sizes = mine[name].shape
                row[: 1 + len(sizes)] = torch.tensor([len(sizes), *sizes])
        if own is not None:
            improvement = math.nan if own.improvement is None else own.improvement
            shapes[-1, :3] = torch.tensor([1.0, own.progress, improvement], dtype=torch.float64)
        every = self._gather(shapes)
        flat = torch.cat(
            [mine[name].double().flatten() for name in WRITTEN if name in mine] or [torch.zeros(0).double()]
        )
        most = max(sum(_count(row) for row in one[:-1]) for one in every)
        numbers = self._gather(torch.cat([flat, flat.new_zeros(most - len(flat))]))
        found = []
        for rank, (one, values) in enumerate(zip(every, numbers, strict=True)):
            if rank != self.own[0]:
                _unpack(one, values, memories[rank])
            if one[-1, 0] > 0:
                progress, improvement = one[-1, 1:3].tolist()
                gained = None if math.isnan(improvement) else improvement
                found.append(Seen(forms[rank], forms[rank].knobs(), memories[rank], gained, progress))
        return found

    def copy(self, group: Children, forms: Sequence[Form], best: int, worst: int) -> None:
        """One child to another, from rank to rank; its knobs everywhere.

        Raises:
            MetricgradError: where the two children's optimisers hold different things.
        """
        assert isinstance(group, Looped)
        (rank,) = self.own
        tensors = _tensors_of(group, forms[rank])
        counts = self._gather(torch.tensor([float(sum(value.numel() for value in tensors))]))
        if counts[best] != counts[worst]:
            raise MetricgradError("the best child cannot be copied: its optimiser holds other tensors than the worst's")
        with torch.no_grad():
            for value in tensors if rank in (best, worst) else ():
                wire = value.detach().to(self.device).contiguous().clone()
                if rank == best:
                    dist.send(wire, worst)
                else:
                    dist.recv(wire, best)
                    value.copy_(wire)
            for theirs, ours in zip(forms[best].knobs().values(), forms[worst].knobs().values(), strict=True):
                if rank != worst:
                    ours.parameter.copy_(theirs.parameter)

    def every(self, values: list[float]) -> list[float]:
        """One number of every child, on every rank."""
        return [float(value) for value in self._gather(torch.tensor(values, dtype=torch.float64))]

    def outcome(self, models: Sequence[nn.Module], kept: Sequence[Kept]) -> list[tuple[nn.Module, Kept]]:
        """The model of every child, and what is kept of it, on every rank."""
        (model,), (own,) = models, kept
        facts = [own.value, math.nan if own.threshold is None else own.threshold]
        values = self._gather(torch.tensor(facts, dtype=torch.float64))
        rows = [[row.get(name, math.nan) for name in _COLUMNS] for row in own.history]
        histories = self._gather(torch.tensor(rows, dtype=torch.float64))
        like = own.state or {name: value.detach() for name, value in model.state_dict().items()}
        states = {name: self._gather(value) for name, value in like.items()}
        found: list[tuple[nn.Module, Kept]] = []
        for rank in range(self.children):
            value, threshold = values[rank].tolist()
            state = {name: every[rank].to(like[name].device) for name, every in states.items()}
            history = [
                {name: v for name, v in zip(_COLUMNS, row, strict=True) if name != "threshold" or not math.isnan(v)}
                for row in histories[rank].tolist()
            ]
            child = model if rank == self.own[0] else copy.deepcopy(model)
            found.append((child, Kept(value, None if math.isnan(threshold) else threshold, state, history)))
        return found

    def _gather(self, value: Tensor) -> list[Tensor]:
        """One tensor of each rank, all of one shape."""
        wire = value.to(self.device).contiguous()
        every = [torch.empty_like(wire) for _ in range(self.children)]
        dist.all_gather(every, wire)
        return [one.to(value.device) for one in every]


def _count(row: Tensor) -> int:
    """How many numbers a tensor of the shape in this row has; none where it is not there."""
    axes = int(row[0])
    return 0 if axes < 0 else math.prod(int(size) for size in row[1 : 1 + axes])


def _unpack(shapes: Tensor, values: Tensor, child: Child) -> None:
    """Put what another rank sent into the memory held here for its child."""
    place = 0
    for row, name in zip(shapes[:-1], WRITTEN, strict=True):
        if row[0] >= 0:
            sizes, count = [int(size) for size in row[1 : 1 + int(row[0])]], _count(row)
            part = values[place : place + count].view(sizes).clone()
            child.memory[name] = part.long() if name == "looked" else part
            place += count


def _tensors_of(group: Looped, form: Form) -> list[Tensor]:
    """Weights, buffers, the optimiser's moments and the form's parameters, as they are held; in a fixed order."""
    (model,), (optimizer,) = group.models, group.optimizers
    states = [optimizer.state[p] for one in optimizer.param_groups for p in one["params"]]
    moments = [state[name] for state in states for name in sorted(state) if isinstance(state[name], Tensor)]
    held = [*model.state_dict().values(), *moments, *form.state_dict().values()]
    return [value for value in held if isinstance(value, Tensor)]
