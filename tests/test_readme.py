"""The README's Python runs as printed, given the names that its user has."""

import inspect
import re
from pathlib import Path

import pandas
import torch
from sklearn.datasets import load_breast_cancer

import metricgrad as mg

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


class MyLoss(torch.nn.Module):
    def forward(self, scores, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.to(scores))


def my_metric(labels, targets):
    return (labels == targets).double().mean()


def names(outputs):
    torch.manual_seed(0)
    inputs = torch.randn(48, 6)
    targets = torch.arange(48) % (outputs or 2)

    def make_model():
        return torch.nn.Sequential(torch.nn.Linear(6, outputs or 1), torch.nn.Flatten(0 if outputs is None else 1))

    model = make_model()
    batches = [(inputs[:24], targets[:24]), (inputs[24:], targets[24:])]
    return {
        "mg": mg, "my_metric": my_metric, "MyLoss": MyLoss, "make_model": make_model, "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "device": "cpu", "batches": batches,
        "valid_batches": batches, "scores": model(inputs).detach(), "targets": targets, "x": inputs, "y": targets,
        "x_valid": inputs, "y_valid": targets, "x_test": inputs, "y_test": targets,
    }  # fmt: skip


def test_the_loop_trains():
    space = names(outputs=3)
    before = space["model"][0].weight.detach().clone()
    exec(BLOCKS[0], space)
    assert not torch.equal(space["model"][0].weight, before)


def test_a_data_frame_is_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = load_breast_cancer(as_frame=True).frame
    data["diagnosis"] = data.pop("target").map({0: "malignant", 1: "benign"})
    data.to_csv("biopsies.csv", index=False)
    space = {"mg": mg, "pandas": pandas}
    exec(BLOCKS[1], space)
    assert space["right"] > 0.9
    again = mg.load_model("frame-model")
    assert again.predict(data).tolist() == space["model"].predict(space["frame"]).tolist()


def test_whole_jobs_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    compare = inspect.signature(mg.compare)  # 150 trainings: that its line is a call of it is enough here
    monkeypatch.setattr(mg, "compare", lambda *given, **options: asked.append(compare.bind(*given, **options)))
    read = []
    monkeypatch.setattr(mg, "load_table", read.append)  # of that comparison
    space = names(outputs=None)
    exec(BLOCKS[2], space)
    assert read == [asked[0].arguments["out"]]
    assert len(space["result"].population.results) == 10
    assert asked[0].arguments["trials"] == 20


def test_cells_of_the_grid_are_made_as_printed():
    space = names(outputs=10)
    exec(BLOCKS[3], space)
    assert type(space["loss"].aligner) is mg.aligners.LookAhead
    assert len(BLOCKS) == 4, "a new block needs a test"
