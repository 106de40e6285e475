"""The shipped losses: there, small, frozen, said how they were made, and of use on other data."""

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_breast_cancer, load_wine, make_classification

import metricgrad as mg
from metricgrad.tasks.mlp import mlp

NAMES = ["accuracy", "auroc", "average_precision", "f1", "macro_f1", "pck", "top_k_accuracy"]
FOLDER = Path(mg.__file__).parent / "systems" / "pretrained"


def _data(load):
    inputs, targets = load(return_X_y=True)
    inputs = torch.as_tensor((inputs - inputs.mean(0)) / inputs.std(0)).float()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    return inputs[order], torch.as_tensor(targets)[order]


def _eight_classes(return_X_y):
    return make_classification(
        900, 12, n_informative=10, n_redundant=0, n_classes=8, n_clusters_per_class=1, random_state=0
    )


def _value(loss, metric, load, outputs):
    inputs, targets = _data(load)
    train = len(targets) * 2 // 3
    torch.manual_seed(0)
    model = mlp(inputs.shape[1], outputs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        rows = torch.randint(train, (64,), generator=generator)
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return float(mg.as_metric(metric)(model(inputs[train:]), targets[train:]))


def test_what_is_shipped_is_small_and_says_which_command_made_it():
    assert sorted(path.stem for path in FOLDER.glob("*.safetensors")) == NAMES
    for name in NAMES:
        path = FOLDER / f"{name}.safetensors"
        assert path.stat().st_size < 200_000
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["metricgrad"])
        assert header["note"] == f"python -m benchmarks.pretrain --only {name}"


@pytest.mark.parametrize("name", NAMES)
def test_each_is_frozen_has_a_report_and_a_gradient(name):
    loss = mg.ReLoss.pretrained(name)
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss.report()["correlation"]["value"] > 0.3
    g = torch.Generator().manual_seed(0)
    binary = name in ("f1", "average_precision", "auroc")
    shape = (32,) if binary else (32, 16, 16) if name == "pck" else (32, 7)
    scores = torch.randn(shape, generator=g, requires_grad=True)
    loss(scores, torch.randint(2, (32, 2) if name == "pck" else (32,), generator=g)).backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum() > 0


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(mg.MetricgradError, match="accuracy, auroc, average_precision"):
        mg.ReLoss.pretrained("bleu")


@pytest.mark.parametrize(
    ("name", "load", "outputs", "level"),
    [
        ("accuracy", load_wine, 3, 0.9),
        ("macro_f1", load_wine, 3, 0.9),
        ("f1", load_breast_cancer, None, 0.92),
        ("auroc", load_breast_cancer, None, 0.97),
        ("average_precision", load_breast_cancer, None, 0.97),
        ("top_k_accuracy", _eight_classes, 8, 0.9),
    ],
)
def test_fitted_on_digits_it_trains_on_other_data(name, load, outputs, level):
    metric = "top_k_accuracy:k=5" if name == "top_k_accuracy" else name
    assert _value(mg.ReLoss.pretrained(name), metric, load, outputs) > level  # 0.64 untrained, of five in eight classes


def test_nothing_asks_the_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    mg.ReLoss.pretrained("f1")
