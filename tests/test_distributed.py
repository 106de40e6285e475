"""A loss on several ranks is the loss of their joined rows: its value, its gradient, and all it remembers."""

from __future__ import annotations

import copy
import datetime
import functools
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import metricgrad as mg
from metricgrad import distributed
from metricgrad.losses.baselines.smooth_ap import SmoothAP
from tests.ranks import on_ranks

ROWS, STEPS = 48, 2
#: rows of each rank, for each number of ranks
SIZES = {2: [(24, 24), (48, 0)], 3: [(0, 37, 11)]}


class Case(NamedTuple):
    """A loss, and the targets and the context of its rows."""

    make: Callable[[], nn.Module]
    outputs: int
    targets: Tensor
    context: dict[str, Tensor]


def share_right(labels: Tensor, targets: Tensor) -> Tensor:
    return (labels == targets).double().mean()


def _cases() -> dict[str, Case]:
    g = torch.Generator().manual_seed(0)
    rare = (torch.arange(ROWS) % 6 == 0).long()
    classes = torch.randint(4, (ROWS,), generator=g)
    grades = torch.randint(3, (ROWS,), generator=g)
    groups = torch.arange(ROWS) // 8
    weight = torch.rand(ROWS, generator=g) + 0.5
    mask = torch.rand(ROWS, generator=g) < 0.8
    found = mg.as_metric(share_right, higher_is_better=True, reads="labels")
    return {
        "labels": Case(lambda: mg.UniLoss("macro_f1"), 4, classes, {}),
        "weighted": Case(lambda: mg.UniLoss("accuracy"), 4, classes, {"sample_weight": weight, "mask": mask}),
        "order of classes": Case(lambda: mg.UniLoss("quadratic_kappa"), 4, classes, {}),
        "threshold": Case(lambda: mg.UniLoss("f1"), 1, rare, {"mask": mask}),
        "list": Case(lambda: mg.UniLoss("average_precision"), 1, rare, {}),
        "queries": Case(lambda: mg.UniLoss("ndcg"), 1, grades, {"groups": groups}),
        "found": Case(lambda: mg.UniLoss(found), 4, classes, {}),
        "found, alone": Case(lambda: mg.UniLoss(found, anchored=False), 4, classes, {}),
        "softness once": Case(lambda: mg.UniLoss("average_precision", anchored=False), 1, rare, {}),
        "softness auto": Case(lambda: mg.UniLoss("auroc", softness="auto"), 1, rare, {}),
        "far": Case(lambda: mg.UniLoss("mcc", interpolation="inverse_distance"), 1, rare, {}),
        "embeddings": Case(lambda: mg.UniLoss("map_at_r"), 4, classes, {}),
        "values": Case(lambda: mg.UniLoss("spearman"), 1, torch.randn(ROWS, generator=g), {}),
        "network": Case(lambda: mg.Loss(mg.AdaLFL(num_outputs=4).form), 4, classes, {}),
        "family": Case(lambda: mg.Loss(mg.ALA("accuracy", num_outputs=4).form), 4, classes, {}),
        "by hand": Case(lambda: mg.Loss(mg.forms.HandMade(SmoothAP())), 1, rare, {}),
    }  # fmt: skip


def _trained(case: Case, rows: slice) -> tuple[list[Tensor], list[Tensor], dict[str, Any]]:
    """The values and gradients of some steps, and the loss's state after them."""
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(5, case.outputs, dtype=torch.float64)
    inputs = torch.randn(STEPS, ROWS, 5, dtype=torch.float64)
    if dist.is_initialized():
        model = DistributedDataParallel(model)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), case.make()
    context = {name: value[rows] for name, value in case.context.items()}
    values, gradients = [], []
    for batch in inputs:
        optimizer.zero_grad()
        scores = model(batch[rows])
        value = loss(scores.squeeze(1) if case.outputs == 1 else scores, case.targets[rows], **context)
        value.backward()
        optimizer.step()
        values.append(value.detach())
        gradients += [p.grad.clone() for p in model.parameters()]
    return values, gradients, loss.state_dict()


def _on_rank(rank: int, world: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All in one go: processes take longer to start than the steps in them."""
    cases = [{name: _trained(case, _rows(sizes, rank)) for name, case in _cases().items()} for sizes in SIZES[world]]
    return cases, _single_checks(rank, world) if world == 2 else {}


_found = functools.cache(functools.partial(on_ranks, _on_rank))


@functools.cache
def _expected() -> dict[str, Any]:
    return {name: _trained(case, slice(None)) for name, case in _cases().items()}


def _rows(sizes: tuple[int, ...], rank: int) -> slice:
    begin = sum(sizes[:rank])
    return slice(begin, begin + sizes[rank])


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_do_as_one_process_with_the_joined_rows(world):
    expected = _expected()
    for rank, (found, _) in enumerate(_found(world)):
        for sizes, by_name in zip(SIZES[world], found, strict=True):
            for name, (values, gradients, state) in by_name.items():
                where = f"{name}, {sizes}, rank {rank}"
                torch.testing.assert_close(values, expected[name][0], rtol=1e-9, atol=1e-11, msg=where)
                torch.testing.assert_close(gradients, expected[name][1], rtol=1e-9, atol=1e-11, msg=where)
                assert any(bool(gradient.any()) for gradient in gradients), where
                _assert_alike(state, expected[name][2], where)


def _assert_alike(state: dict[str, Any], other: dict[str, Any], where: str) -> None:
    assert state.keys() == other.keys(), where
    for name, value in state.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, other[name], rtol=1e-6, atol=1e-9, equal_nan=True, msg=where)
        else:
            assert value == other[name], where


def _said(call: Callable[[], Any]) -> str:
    try:
        call()
    except mg.MetricgradError as error:
        return str(error)
    return ""


def _single_checks(rank: int, world: int) -> dict[str, Any]:
    """What cannot be told from one process: who talks to whom, and what is said where that fails."""
    torch.manual_seed(rank)
    scores = torch.randn(6 + rank, 3, dtype=torch.float64, requires_grad=True)
    targets, found = torch.arange(6 + rank) % 3, {}
    pairs: list[Any] = [None] * world
    dist.all_gather_object(pairs, (scores.detach(), targets))
    whole = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])

    apart = mg.UniLoss("accuracy", gather=False)
    found["apart"] = apart(scores, targets), mg.UniLoss("accuracy", gather=False)(scores[:], targets)
    groups = [dist.new_group([0]), dist.new_group([1])]
    found["group"] = mg.UniLoss("accuracy", process_group=groups[rank])(scores, targets), found["apart"][0]

    # a network of another seed, and another number of steps, on each rank: the first rank's are taken
    network = mg.Loss(mg.AdaLFL(num_outputs=3, seed=rank).form, seed=rank)
    network.steps += rank
    found["network"] = network(scores, targets), mg.Loss(mg.AdaLFL(num_outputs=3).form)(*whole)
    assert (network.seed, int(network.steps)) == (0, 1)
    assert copy.deepcopy(mg.Loss(network.form, process_group=groups[rank])).ranks.process_group is groups[rank]

    # a training that goes on, with a state that the first rank alone has loaded
    model, later = nn.Linear(1, 1), mg.UniLoss("macro_f1")
    if rank == 0:
        later.load_state_dict({**later.state_dict(), "_progress.steps": torch.tensor(15)})
    handle = later.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), total_steps=20)
    later(scores, targets)
    found["loaded"] = torch.tensor(later._progress.share), torch.tensor(0.75)
    handle.detach()

    # sentences of another length on each rank
    words = torch.randn(2, 3 + rank, 5, dtype=torch.float64)
    tags, mask = torch.arange(2 * (3 + rank)).reshape(2, -1) % 4, torch.ones(2, 3 + rank, dtype=torch.bool)
    dist.all_gather_object(pairs, (words.reshape(-1, 5), tags.reshape(-1)))
    flat = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    found["words"] = mg.UniLoss("macro_f1")(words, tags, mask=mask), mg.UniLoss("macro_f1")(*flat)
    ignored = mg.UniLoss(mg.as_metric("macro_f1", ignore_index=-100))
    found["ignored"] = ignored(words, tags.masked_fill(~mask, -100)), mg.UniLoss("macro_f1")(*flat)
    # a weight for each query, in the order of each rank's own queries
    queries = torch.tensor([[5, 5, 5, 9, 9, 9], [1, 1, 1, 7, 7, 7]][rank])
    weight, last = torch.tensor([[10.0, 1.0], [1.0, 1.0]][rank]), (torch.arange(6) >= 3).long()
    lists = (torch.arange(6) * 7 % 5).double().requires_grad_(), torch.arange(6) % 2
    found["query weights"] = tuple(
        mg.UniLoss("map")(*lists, groups=queries, sample_weight=each) for each in (weight, weight[last])
    )
    # one row of a column on one rank, and none on the other
    column = torch.full((4, 5), 3.0)[:rank, 1].requires_grad_()
    found["one row"] = mg.UniLoss("mse")(column, torch.ones(4, 5)[:rank, 1]), torch.tensor(4.0)
    loss = mg.UniLoss("macro_f1")
    found["ragged"] = _said(lambda: loss(words, tags))
    found["classes"] = _said(lambda: loss(torch.randn(2, 3, 4 + rank), tags[:, :3], mask=mask[:, :3]))
    found["names"] = _said(lambda: loss(scores, targets, mask=targets < 2) if rank else loss(scores, targets))
    found["dtype"] = _said(lambda: loss(scores if rank else scores.float(), targets))
    found["error"] = _said(lambda: loss(scores.tolist() if rank else scores, targets))
    found["nan"] = _said(lambda: loss(scores * (float("nan") if rank else 1), targets))
    found["metrics"] = _said(lambda: mg.UniLoss("macro_f1" if rank else "accuracy")(scores, targets))

    short = dist.new_group(timeout=datetime.timedelta(seconds=1))
    missed = mg.UniLoss("accuracy", process_group=short)

    # no more than the first rank evaluates, and then it alone calls
    if rank == 0:
        expected = mg.UniLoss("macro_f1", gather=False).eval()(scores, targets)
        with torch.no_grad():
            found["no_grad"] = loss(scores, targets), expected
        found["eval"] = copy.deepcopy(loss).eval()(scores, targets), expected
        dist.barrier()
        start = time.monotonic()
        found["missing"] = _said(lambda: missed(scores, targets))
        assert time.monotonic() - start < 30
    else:
        dist.barrier()  # until the first rank is done with all that it does alone
        time.sleep(3)
    return {
        name: value if isinstance(value, str) else [part.detach() for part in value] for name, value in found.items()
    }


def test_who_talks_to_whom_and_what_is_said():
    (_, first), (_, second) = _found(2)
    for name in (
        "apart",
        "group",
        "network",
        "loaded",
        "words",
        "ignored",
        "query weights",
        "one row",
        "no_grad",
        "eval",
    ):
        for found in (first, second):
            if name in found:
                torch.testing.assert_close(*found[name], rtol=1e-12, atol=1e-12, msg=name)
    assert not torch.equal(first["apart"][0], second["apart"][0])
    assert torch.equal(first["network"][0], second["network"][0])
    told = {
        "ragged": "(2, 3, 5), (2, 4, 5)",
        "classes": "pad their rows",
        "names": "rank 1 scores, targets, mask",
        "dtype": "float64",
        "error": "rank 1 could not call the loss: scores is a list",
        "nan": "NaN in 7 of 13 rows",
        "metrics": "rank 1 has another loss: form.form.metric is 'macro_f1', and on rank 0 'accuracy'; "
        "make the same loss",
    }
    for name, words in told.items():
        assert words in first[name], first[name]
        assert first[name] == second[name]
    assert "another rank did not call this loss" in first["missing"]


def test_fit_trains_alone_in_a_group(monkeypatch):
    group = types.SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda _: 2)
    monkeypatch.setattr(distributed, "dist", group)  # which can do nothing else
    part = torch.randn(24, 4), torch.arange(24) % 3
    with pytest.raises(AttributeError, match="all_gather"):
        mg.UniLoss("accuracy")(torch.randn(24, 3, requires_grad=True), part[1])
    fitted = mg.fit(nn.Linear(4, 3), part, part, metric="accuracy", epochs=1, progress=False, device="cpu")
    assert 0 <= fitted.valid <= 1
