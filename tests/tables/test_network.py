"""A network made of plain numbers that learns a table, whatever kinds of columns it has."""

import pytest
import torch

import metricgrad as mg
from metricgrad.tables.columns import read_columns
from metricgrad.tables.network import PiecewiseLinearEmbeddings, TableNetwork
from metricgrad.tables.preprocessing import Preprocessing
from metricgrad.tables.target import encode_target
from metricgrad.tables.understanding import understand
from metricgrad.training.fit import fit
from tests.tables.frames import people


@pytest.mark.parametrize(
    ("numbers", "flags", "levels", "outputs"), [(3, 1, [4, 2], None), (3, 0, [], 5), (0, 0, [4], 3), (1, 2, [3], 1)]
)
def test_shapes_and_the_same_again_from_its_config(numbers, flags, levels, outputs):
    torch.manual_seed(0)
    network = TableNetwork(numbers, flags, levels, outputs, width=8).eval()
    x = torch.cat([torch.randn(6, numbers), torch.ones(6, flags), *(torch.randint(0, n, (6, 1)) for n in levels)], 1)
    scores = network(x)
    assert scores.shape == ((6,) if outputs is None else (6, outputs))
    again = TableNetwork(**network.config()).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), scores)


def test_a_level_that_training_never_met_says_nothing():
    torch.manual_seed(0)
    network = TableNetwork(1, 0, [4], None, width=8, dropout=0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    x = torch.cat([torch.randn(64, 1), torch.randint(2, 4, (64, 1))], 1)
    for _ in range(5):
        torch.nn.functional.mse_loss(network(x), x[:, 1]).backward()
        optimizer.step()
    assert bool((network.of_levels.weight[0] == 0).all())
    assert bool((network.of_levels.weight[2] != 0).any())


def test_embeddings_are_linear_between_normal_quantiles_and_go_on_beyond():
    torch.manual_seed(0)
    embeddings = PiecewiseLinearEmbeddings(2, 3, 4)
    torch.nn.init.normal_(embeddings.pieces)
    edges = torch.special.ndtri(torch.tensor([0.001, 0.2505, 0.5, 0.7495, 0.999]))

    def bends(*at):
        x = torch.tensor(at)
        found = embeddings(torch.stack([x, x], 1))
        return (found[0] - 2 * found[1] + found[2]).abs().max().item()

    for low, high in zip([torch.tensor(-9.0), *edges[1:-1]], [*edges[1:-1], torch.tensor(9.0)], strict=True):
        assert bends(low, (low + high) / 2, high) < 1e-4
    for edge in edges[1:-1]:
        assert bends(edge - 0.1, edge, edge + 0.1) > 1e-2


@pytest.mark.parametrize("wrong", [{"width": 0}, {"bins": 1}, {"dropout": 1.0}, {"outputs": -1}, {"numbers": -1}])
def test_sizes_that_mean_nothing_are_refused(wrong):
    with pytest.raises(mg.MetricgradError, match="sizes are 1 or more"):
        TableNetwork(**{"numbers": 1, "flags": 0, "levels": [2], "outputs": None, **wrong})


@pytest.mark.parametrize("loss", ["cross_entropy", "uniloss"])
def test_it_learns_who_leaves(loss):
    frame = people(600)
    schema = understand(frame, "left", drop=["since"])
    columns, targets = read_columns(schema, frame), torch.as_tensor(encode_target(schema.target, frame["left"]))
    found = Preprocessing.fit(schema, columns)
    x, layout = found.apply(columns), found.layout
    torch.manual_seed(0)
    network = TableNetwork(layout.numbers, len(layout.gaps), layout.levels, None, width=32)
    result = fit(
        network, (x[:400], targets[:400]), (x[400:], targets[400:]), metric="f1", loss=loss, lr=3e-3, epochs=15,
        progress=False, device="cpu",
    )  # fmt: skip
    assert result.valid > 0.75
