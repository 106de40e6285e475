"""Baselines from pytorch-metric-learning, called as our losses are."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.baselines.metric_learning import MetricLearning, ProxyAnchor
from metricgrad.systems.by_name import make_loss

losses = pytest.importorskip("pytorch_metric_learning.losses")
NAMES = ["multi_similarity", "fast_ap", "retrieval_smooth_ap", "proxy_anchor:num_classes=4,embedding_size=6"]


def _draw(n=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=g), torch.tensor([5, 90, 7, 1000]).repeat(n // 4)


@pytest.mark.parametrize("spec", NAMES)
def test_each_trains_embeddings_whatever_the_class_numbers(spec):
    torch.manual_seed(0)
    scores, targets = _draw()
    loss = make_loss(spec, "map_at_r")
    scores.requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.05)
    before = float(mg.as_metric("map_at_r")(scores.detach(), targets))
    for _ in range(40):
        optimizer.zero_grad()
        loss(scores, targets).backward()
        optimizer.step()
    assert float(mg.as_metric("map_at_r")(scores.detach(), targets)) > before + 0.3


def test_values_are_the_librarys_own():
    scores, targets = _draw()
    numbers = targets.unique(return_inverse=True)[1]
    order = numbers.argsort(stable=True)
    for spec, theirs in (
        ("multi_similarity:base=0.4", losses.MultiSimilarityLoss(base=0.4)),
        ("fast_ap:num_bins=20", losses.FastAPLoss(num_bins=20)),
        ("retrieval_smooth_ap", losses.SmoothAPLoss()),
    ):
        expected = theirs(scores[order], numbers[order])
        torch.testing.assert_close(make_loss(spec, "map_at_r")(scores, targets), expected)


@pytest.mark.parametrize("spec", NAMES)
def test_a_batch_without_pairs_of_both_sorts_costs_nothing(spec):
    loss = make_loss(spec, "map_at_r")
    for targets in ([], [4], [0, 1, 2], [5, 5, 5]):
        scores = torch.randn(len(targets), 6, requires_grad=True)
        value = loss(scores, torch.tensor(targets, dtype=torch.long))
        value.backward()
        assert float(value.detach()) == 0
        assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_proxies_train_with_the_model_at_a_rate_of_their_own():
    loss = ProxyAnchor(num_classes=4, embedding_size=6, rate=50.0)
    model = torch.nn.Linear(6, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    handle = loss.attach(model, optimizer)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.5)
    before = loss.loss.proxies.detach().clone()
    scores, targets = _draw()
    loss(model(scores), targets).backward()
    optimizer.step()
    assert not torch.equal(loss.loss.proxies.detach(), before)
    handle.detach()
    assert len(optimizer.param_groups) == 1


def test_classes_keep_their_proxies_and_travel_with_the_state():
    loss, other = (ProxyAnchor(num_classes=4, embedding_size=6) for _ in range(2))
    scores, targets = _draw()
    first = torch.tensor([5, 90]).repeat(12)
    loss(scores, first)
    expected = loss(scores, targets)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(scores, targets), expected)
    assert sorted(loss.classes.tolist()) == [5, 7, 90, 1000]
    with pytest.raises(mg.MetricgradError, match="class 6 is one more"):
        loss(scores, targets.where(targets != 7, 6))


def test_fit_with_proxies_ends_where_an_undisturbed_one_does(tmp_path):
    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
    part = (x, torch.arange(48) % 4)
    calls = []

    def forward(model, batch):
        calls.append(model.training)
        if sum(calls) == 8:  # three steps an epoch: dies in the third
            raise RuntimeError("power cut")
        return model(batch[0]), batch[1]

    def run(out, forward):
        torch.manual_seed(0)
        model, loss = torch.nn.Linear(6, 3), ProxyAnchor(num_classes=4, embedding_size=3, rate=10.0)
        mg.fit(
            model, part, part, metric="map_at_r", loss=loss, epochs=4, batch_size=16, per_class=4, lr=0.01,
            out=out, forward=forward, progress=False, device="cpu",
        )  # fmt: skip
        return model.weight.detach(), loss.loss.proxies.detach()

    whole = run(None, None)
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, forward)
    resumed = run(tmp_path, None)
    assert torch.equal(resumed[0], whole[0])
    assert torch.equal(resumed[1], whole[1])


def test_what_is_wrong_is_named(monkeypatch):
    with pytest.raises(mg.MetricgradError, match="num_classes is None"):
        make_loss("proxy_anchor", "map_at_r")
    with pytest.raises(mg.MetricgradError, match="has no loss 'NoLoss'"):
        MetricLearning("NoLoss")
    with pytest.raises(mg.MetricgradError, match="as many items of every class"):
        make_loss("retrieval_smooth_ap", "map_at_r")(torch.randn(5, 6), torch.tensor([0, 0, 1, 1, 1]))
    with pytest.raises(mg.MetricgradError, match="embedding_size is 6"):
        ProxyAnchor(num_classes=4, embedding_size=6)(torch.randn(8, 3), torch.arange(8) % 4)
    with pytest.raises(mg.MetricgradError, match="needs scores"):
        make_loss("fast_ap", "map_at_r")(torch.randn(8), torch.arange(8) % 4)
    monkeypatch.setitem(__import__("sys").modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(mg.MetricgradError, match=r"pip install metricgrad\[retrieval\]"):
        make_loss("fast_ap", "map_at_r")


def test_smooth_ap_says_where_the_library_groups_rows_wrongly():
    torch.manual_seed(0)
    scores, order = torch.randn(8, 6), torch.randperm(8)
    loss, targets = make_loss("retrieval_smooth_ap", "map_at_r"), torch.arange(8) % 2
    with pytest.warns(UserWarning, match="2 classes of 4: its value then depends on the order of the rows"):
        value = loss(scores, targets)
    assert not torch.allclose(loss(scores[order], targets[order]), value)  # once it is equal, the warning can go
    square = torch.arange(9) % 3
    scores, order = torch.randn(9, 6), torch.randperm(9)
    torch.testing.assert_close(loss(scores[order], square[order]), loss(scores, square))
