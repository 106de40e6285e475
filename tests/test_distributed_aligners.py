"""Aligners on several ranks move a loss as they do on one process with the joined rows; and so do micro-batches."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import metricgrad as mg
from tests.ranks import on_ranks

ROWS, STEPS = 36, 4
SIZES = {2: (30, 6), 3: (10, 0, 26)}


def _data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (ROWS,), generator=g)
    return torch.randn(ROWS, 4, generator=g, dtype=torch.float64) + nn.functional.one_hot(targets, 4), targets


def _trained(name: str, rows: slice) -> dict[str, Any]:
    """A few steps of a training; what moved, and how the model ended."""
    torch.manual_seed(0)
    inputs, targets = _data()
    inputs, targets = inputs[rows], targets[rows]
    model: nn.Module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    if dist.is_initialized():
        model = DistributedDataParallel(model)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    if name == "adam":
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    options = {"lr": 0.05, "objective": mg.UniLoss("macro_f1") if name == "toward the metric" else "task"}
    loss: Any = mg.AdaLFL(num_outputs=3, **options).double()
    if name in ("policy", "walk", "by hand"):
        aligner = "random_walk" if name == "walk" else "policy"
        loss = mg.ALA("accuracy", num_outputs=3, every=1, warm_up=0, aligner=aligner).double()
    valid = None if name in ("no valid", "by hand") else [(inputs.flip(0), targets.flip(0))]
    loss.attach(model, optimizer, valid=valid, total_steps=STEPS)
    moved = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        if name == "chunks":
            loss = mg.UniLoss("accuracy") if not moved else loss
            value = mg.microbatched(loss, model, inputs, targets, size=4)
        elif name == "accumulated":
            scores = model(inputs)
            with model.no_sync() if dist.is_initialized() else torch.enable_grad():
                (0.25 * loss(scores, targets)).backward()
            value = loss(model(inputs), targets)
            (0.75 * value).backward()
        else:
            value = loss(model(inputs), targets)
            value.backward()
        if name == "clipped":
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        if name == "by hand":
            with torch.no_grad():
                loss.observe(model(inputs), targets)
        moved.append([float(value.detach()), *(p.detach().clone() for p in loss.form.parameters())])
    ahead = getattr(loss.aligner, "last_hypergradient", [])
    return {"moved": moved, "model": [p.detach() for p in model.parameters()], "ahead": ahead}


NAMES = (
    "sgd", "adam", "clipped", "accumulated", "no valid", "toward the metric", "policy", "walk", "by hand", "chunks",
)  # fmt: skip


def _sharded(rows: slice, *, shard: bool) -> list[Any]:
    """A few steps of a model whose parameters fully_shard leaves in parts, whole and in chunks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    if shard:
        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    inputs, targets = _data()
    optimizer, loss, values = torch.optim.SGD(model.parameters(), lr=0.3), mg.UniLoss("macro_f1"), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model(inputs[rows]), targets[rows])
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        values += [value.detach(), mg.microbatched(loss, model, inputs[rows], targets[rows], size=9)]
        optimizer.step()
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    said = ""
    if shard:
        with pytest.raises(mg.MetricgradError) as error:
            mg.microbatched(loss, model, inputs[rows], targets[rows], size=30 if dist.get_rank() else 4)
        said = str(error.value)
        with pytest.raises(mg.MetricgradError, match="LookAhead needs whole parameters"):
            mg.AdaLFL(num_outputs=3).attach(model, optimizer, valid=[(inputs, targets)])
    return [values, [p.detach() for p in whole], said]


def test_fully_sharded_parameters():
    expected = _sharded(slice(None), shard=False)
    for _, (values, parameters, said) in _found(2):
        torch.testing.assert_close(values, expected[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(parameters, expected[1], rtol=1e-9, atol=1e-11)
        assert "the ranks have 5, 1 chunks" in said


def _on_rank(rank: int, world: int) -> tuple[dict[str, Any], list[Any]]:
    """All in one go: processes take longer to start than the steps in them."""
    begin = sum(SIZES[world][:rank])
    found = {name: _trained(name, slice(begin, begin + SIZES[world][rank])) for name in NAMES}
    return found, _sharded(slice(18 * rank, 18 * rank + 18), shard=True) if world == 2 else []


_found = functools.cache(functools.partial(on_ranks, _on_rank))


@functools.cache
def _expected() -> dict[str, Any]:
    return {name: _trained(name, slice(None)) for name in NAMES}


@pytest.mark.filterwarnings("ignore:LookAhead has no validation batches")
@pytest.mark.parametrize("world", SIZES)
def test_ranks_move_a_loss_as_one_process_does(world):
    expected = _expected()
    for rank, (found, _) in enumerate(_found(world)):
        for name in NAMES:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=1e-9, msg=f"{name}, rank {rank}")
    for name in NAMES:
        first, *_, last = expected[name]["moved"]
        assert name == "chunks" or any(not torch.equal(a, b) for a, b in zip(first[1:], last[1:], strict=True)), name
        assert name in ("policy", "walk", "by hand", "chunks") or expected[name]["ahead"], name
