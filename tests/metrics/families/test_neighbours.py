"""Metrics of embeddings against a plain loop and against pytorch-metric-learning."""

import numpy as np
import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.built_in import table

METRICS = ["retrieval_recall:k=1", "retrieval_recall:k=3", "map_at_r"]


def _draw(n=60, d=5, classes=7, seed=0, pull=0.7):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=g, dtype=torch.float64)
    return pull * centres[targets] + torch.randn(n, d, generator=g, dtype=torch.float64), targets + 40


def _looped(embeddings, targets, spec):
    x = embeddings.numpy() / np.linalg.norm(embeddings.numpy(), axis=1, keepdims=True)
    y = targets.numpy()
    values = []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        ranked = sorted(others, key=lambda j: -(x[i] @ x[j]))
        hits = [y[j] == y[i] for j in ranked]
        total = sum(hits)
        if total == 0:
            continue
        if spec.startswith("retrieval_recall"):
            values.append(any(hits[: int(spec[-1])]))
        else:
            values.append(sum(sum(hits[: r + 1]) / (r + 1) for r in range(total) if hits[r]) / total)
    return float(np.mean(values))


@pytest.mark.parametrize("spec", METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_a_plain_loop_agrees(spec, seed, monkeypatch):
    embeddings, targets = _draw(seed=seed, pull=0.4 * seed)
    metric = mg.as_metric(spec)
    expected = _looped(embeddings, targets, spec)
    assert float(metric(embeddings, targets)) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("metricgrad.metrics.families.neighbours._PAIRS", 7 * len(targets))  # blocks of rows do not show
    assert float(metric(embeddings, targets)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_pytorch_metric_learning_agrees(seed):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN
    from sklearn.cluster import KMeans

    def kmeans(x, count):
        return torch.as_tensor(KMeans(count, n_init=100, random_state=1).fit_predict(x.numpy())).long()

    # apart far enough for one optimum of k-means: from float32 input it may stop at another one than from float64
    embeddings, targets = _draw(n=80, seed=seed, pull=3.0)
    embeddings = torch.nn.functional.normalize(embeddings)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r", "NMI"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
        kmeans_func=kmeans,
        device=torch.device("cpu"),
    )
    expected = calculator.get_accuracy(embeddings, targets)
    found = {
        "precision_at_1": mg.as_metric("retrieval_recall")(embeddings, targets),
        "mean_average_precision_at_r": mg.as_metric("map_at_r")(embeddings, targets),
        "NMI": mg.as_metric("nmi:restarts=100")(embeddings, targets),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=1e-6)


def test_hand_made_numbers():
    # on a circle: 0 and 10 degrees of class 7, 20 of class 9, 100 of class 7, 110 of class 9, and a class of its own
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 20.0, 100.0, 110.0, 200.0]))
    embeddings = torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, 7)[:, None]
    targets = torch.tensor([7, 7, 9, 7, 9, 5])
    # nearest: 0 -> 10 yes; 10 -> 0 and 20 tie, 20 of the other class counts first; 20 -> 10 no; 100 -> 110 no;
    # 110 -> 100 no; 200 is alone and left out
    assert float(mg.as_metric("retrieval_recall:k=1")(embeddings, targets)) == pytest.approx(1 / 5)
    assert float(mg.as_metric("retrieval_recall:k=2")(embeddings, targets)) == pytest.approx(2 / 5)
    # R = 2, 2, 1, 2, 1: row 0 has (yes, no): 1/2; row 1 (no, yes): 1/4; the others nothing in their first R
    assert float(mg.as_metric("map_at_r")(embeddings, targets)) == pytest.approx((1 / 2 + 1 / 4) / 5)


@pytest.mark.parametrize("spec", METRICS)
def test_embeddings_that_coincide_earn_nothing(spec):
    targets = torch.arange(30) % 3
    for value in (0.0, 0.3):
        assert float(mg.as_metric(spec)(torch.full((30, 7), value), targets)) == 0


@pytest.mark.parametrize("spec", [*METRICS, "nmi"])
def test_length_and_rotation_do_not_matter_and_clusters_apart_are_worth_one(spec):
    embeddings, targets = _draw(pull=1.0)
    metric = mg.as_metric(spec)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    moved = (embeddings * torch.rand(60, 1, dtype=torch.float64).add(0.1)) @ turn
    assert float(metric(moved, targets)) == pytest.approx(float(metric(embeddings, targets)), abs=1e-9)
    apart = torch.eye(7, dtype=torch.float64)[targets - 40]
    assert float(metric(apart, targets)) == pytest.approx(1)


def test_what_cannot_be_judged_is_nan_or_refused():
    embeddings = torch.randn(4, 3)
    assert mg.as_metric("retrieval_recall")(embeddings, torch.arange(4)).isnan()
    assert mg.as_metric("map_at_r")(embeddings[:1], torch.zeros(1).long()).isnan()
    with pytest.raises(mg.MetricgradError, match="needs scores"):
        mg.as_metric("map_at_r")(torch.randn(6), torch.zeros(6).long())
    with pytest.raises(mg.MetricgradError, match="from 1 up"):
        mg.as_metric("retrieval_recall:k=0")(embeddings, torch.zeros(4).long())
    with pytest.raises(mg.MetricgradError, match="whole labels"):
        mg.as_metric("map_at_r")(embeddings, torch.tensor([0.5, 1, 2, 3]))


def test_a_callable_of_embeddings_gets_them_raw():
    def longest(embeddings, targets):
        return embeddings.norm(dim=1).max()

    metric = mg.as_metric(longest, reads="embeddings", higher_is_better=True)
    assert float(metric(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([5, 6]))) == 5


@pytest.mark.parametrize("name", ["retrieval_recall", "map_at_r"])
def test_the_listing_says_by_what_neighbours_are_near(name):
    assert "by cosine" in table()[name].fn.__doc__.splitlines()[0]
