"""Under data-parallel training rank 0 probes, and every rank trains on what it found."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import metricgrad as mg


def _share_right(labels, targets):
    return (labels == targets).double().mean()


def _constant(labels, targets):
    return torch.tensor(0.5)


def _worker(rank, port, fn, expected):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = mg.as_metric(fn, higher_is_better=True, reads="labels")
    loss = mg.UniLoss(metric, anchored=False)
    scores, targets = torch.randn(30 + rank, 3, requires_grad=True), torch.arange(30 + rank) % 3
    try:
        loss(scores, targets).backward()
        outcome = loss.form.get_extra_state()["kind"]
    except mg.MetricgradError:
        outcome = "refused"
    assert outcome == expected, outcome
    dist.destroy_process_group()


@pytest.mark.parametrize(("fn", "expected"), [(_share_right, "labels"), (_constant, "refused")])
def test_rank_zero_decides_for_all(fn, expected):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, args=(port, fn, expected), nprocs=2)
