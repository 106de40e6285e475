"""A population spread over ranks is the population of one process: same children, same policy, everywhere."""

import json
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import metricgrad as mg
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.training.population.fit_population import fit_population
from tests.training.test_fit import problem

RANKS = 2


def _network():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def _fit(case, seed=0, **where):
    options = {"every": 3, "warm_up": 0, "seed": seed}
    if case == "matrix":
        loss = mg.ALA("accuracy", CorrelationMatrix(3), 3, learner="reinforce", looks=2, **options)
    else:
        loss = mg.ALA("accuracy", None, None, aligner="random_walk" if case == "walk" else "policy", **options)
    settings = {"epochs": 3, "batch_size": 20, "lr": 0.02, "copy_best": None if case == "matrix" else 2}
    if case == "walk":
        settings |= {"epochs": 12, "patience": 2}
    return fit_population(_network, *problem(), metric="accuracy", loss=loss, **settings, **where)


def _facts(found):
    """All that must be the same wherever the population was trained."""
    return {
        "valid": [result.valid for result in found.results],
        "test": [result.evaluate(problem()[1]) for result in found.results],
        "losses": [[row["train_loss"] for row in result.history] for result in found.results],
        "weights": [[float(value.double().sum()) for value in r.model.state_dict().values()] for r in found.results],
        "histories": found.histories,
        "policy": {
            name: value.double().flatten().tolist()
            for name, value in found.loss.aligner.state_dict().items()
            if isinstance(value, torch.Tensor)
        },
    }


def _worker(rank, port, folder):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    for case in ("bandit", "matrix", "walk"):
        (folder / f"{case}-{rank}.json").write_text(json.dumps(_facts(_fit(case, ranks=True))))
    refused = []
    for seed, children, word in ((rank, None, "different arguments"), (0, 5, "children is 5 on 2 ranks")):
        try:
            _fit("bandit", seed, ranks=True, children=children)
        except mg.MetricgradError as error:
            refused.append(word in str(error))
    (folder / f"refused-{rank}.json").write_text(json.dumps(refused))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, args=(port, folder), nprocs=RANKS)
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


@pytest.mark.parametrize("case", ["bandit", "matrix", "walk"])
def test_two_ranks_are_a_loop_over_two_children(spread, case):
    """With copies, batch normalisation and a policy over class pairs: to the last digit, on both ranks."""
    one, other = (spread[f"{case}-{rank}"] for rank in range(RANKS))
    assert one == other
    expected = json.loads(json.dumps(_facts(_fit(case, children=RANKS, stacked=False))))
    assert one.keys() == expected.keys()
    for name, value in expected.items():
        assert one[name] == value, name
    assert all(len(losses) < 12 for losses in expected["losses"])  # the walk, by patience
    knobs = [history["knobs"] for history in one["histories"]]
    assert knobs[0] != knobs[1]


def test_ranks_that_disagree_are_refused(spread):
    assert spread["refused-0"] == spread["refused-1"] == [True, True]


def test_ranks_need_a_process_group():
    with pytest.raises(mg.MetricgradError, match="init_process_group"):
        _fit("bandit", ranks=True)
