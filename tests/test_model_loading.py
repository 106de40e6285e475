"""``FitResult.save`` and ``mg.load_model``: the same answers, nothing run for it, one sentence for what is wrong."""

import hashlib
import json
import random
import shutil

import pytest
import torch
from benchmarks.fuzz.spoiling import dumped, spoil_bytes, spoil_json
from torch import nn

import metricgrad as mg
from metricgrad.tables.model_folder import save_table_model
from tests.tables.test_model import trained

X = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
RARE = ((X[:, 0] + 0.7 * X[:, 4]) > 1.4).long()
CLASSES = X[:, :3].argmax(1)


def net(outputs=3):
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


def quick(targets, outputs, **more):
    torch.manual_seed(0)
    options = {"metric": "accuracy", "loss": "cross_entropy", "epochs": 3, "lr": 0.05, "device": "cpu"} | more
    return mg.fit(net(outputs), (X[:200], targets[:200]), (X[200:], targets[200:]), progress=False, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    quick(CLASSES, 3).save(folder / "sound")
    save_table_model(trained("binary")[1], folder / "table")
    return folder


@pytest.mark.parametrize(
    ("targets", "outputs", "options"),
    [
        (CLASSES, 3, {"metric": "macro_f1", "decision": "offsets"}),
        (RARE, 1, {"metric": "f1", "decision": "threshold"}),
        (X[:, 1], 1, {"metric": "mse", "loss": "mse"}),
        (torch.stack([RARE, 1 - RARE], 1), 2, {"metric": "macro_f1"}),
    ],
    ids=["classes", "binary", "values", "labels"],
)
def test_a_folder_answers_as_the_result_did(tmp_path, targets, outputs, options):
    result = quick(targets, outputs, **options)
    state = torch.get_rng_state()
    again = mg.load_model(result.save(tmp_path / "model"), model=lambda: net(outputs))
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.model.training
    assert torch.equal(again.scores(X), result.predict_scores(X))
    assert torch.equal(again.predict(X.numpy()), result.predict(X))
    assert again.evaluate_both((X, targets)) == result.evaluate_both((X, targets))
    assert again.decision.described() == result.decision.described()
    if options["metric"] != "mse":
        assert torch.equal(again.predict_proba(X), result.predict_proba(X))
    assert again.card["valid"] == pytest.approx(result.valid)
    assert again.card["loss"] == options.get("loss", "cross_entropy")
    assert again.card["train"].startswith("(200, 5):")
    assert len(again.card["history"]) == 3


def test_a_network_that_is_passed_is_filled_and_tied_weights_are_kept(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
            self.b.weight = self.a.weight
            self.register_buffer("bytes", torch.arange(5, dtype=torch.uint8))

        def forward(self, inputs):
            return self.b(self.a(inputs).relu())

    result = mg.fit(
        Tied(), (X, X.argmax(1)), (X, X.argmax(1)), metric="accuracy", loss="cross_entropy", epochs=1, device="cpu"
    )
    network = Tied()
    again = mg.load_model(result.save(tmp_path / "model"), model=network)
    assert again.model is network
    assert network.a.weight is network.b.weight
    assert torch.equal(again.scores(X), result.scores(X))


def test_a_finished_run_is_saved_too_and_a_loss_with_what_it_learned(tmp_path):
    first = quick(CLASSES, 3, loss=mg.ALA("accuracy", num_outputs=3, every=2), out=tmp_path / "run")
    torch.manual_seed(0)
    first.save(tmp_path / "model")
    learned = mg.load_loss(tmp_path / "model" / "loss.safetensors")
    assert learned.aligner.state_dict().keys() == first.loss.aligner.state_dict().keys()
    second = quick(CLASSES, 3, loss=mg.ALA("accuracy", num_outputs=3, every=2), out=tmp_path / "run")
    second.save(tmp_path / "again")
    one, two = (mg.load_model(tmp_path / name, model=net) for name in ("model", "again"))
    assert torch.equal(one.scores(X), two.scores(X))
    assert two.card["lr"] == 0.05
    assert not (tmp_path / "again" / "loss.safetensors").exists()


def test_a_metric_of_one_s_own_is_passed_again(tmp_path):
    own = mg.as_metric(
        lambda labels, targets: (labels == targets).float().mean(), higher_is_better=True, reads="labels", name="own"
    )
    result = quick(CLASSES, 3, metric=own)
    result.save(tmp_path / "model")
    without = mg.load_model(tmp_path / "model", model=net)
    assert torch.equal(without.predict(X), result.predict(X))
    with pytest.raises(mg.MetricgradError, match="'own' is not built in; pass it again"):
        without.evaluate((X, CLASSES))
    again = mg.load_model(tmp_path / "model", model=net, metric=own)
    assert again.evaluate((X, CLASSES)) == result.evaluate((X, CLASSES))


def test_a_table_s_model_is_loaded_by_the_same_call(place):
    frame, model = trained("binary")
    again = mg.load_model(place / "table")
    assert again.predict(frame).tolist() == model.predict(frame).tolist()
    with pytest.raises(mg.MetricgradError, match="leave model out"):
        mg.load_model(place / "table", model=net)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "pass the factory of the network, as load_model"),
        ({"model": lambda: net(4)}, r"'3\.bias' is \(3,\) in the file and \(4,\) in the network; pass the fact"),
        ({"model": lambda: nn.Linear(5, 3)}, r"not those of this Linear: the file has '0\.bias'"),
        ({"model": lambda: nn.Sequential(*net(), nn.Linear(3, 3))}, r"the network has '4\.weight', and the file has"),
        ({"model": lambda: 3}, "model made a int"),
        ({"model": nn.Linear}, "takes arguments"),
        ({"model": net, "metric": 3}, "a name or a callable"),
    ],
    ids=["no factory", "another width", "another class", "more", "no module", "arguments", "no metric"],
)
def test_what_is_wrong_is_one_sentence(place, options, words):
    if options.get("metric") == 3:
        card = json.loads((place / "sound" / "card.json").read_text())
        shutil.copytree(place / "sound", place / "foreign")
        (place / "foreign" / "card.json").write_text(json.dumps({**card, "metric": "own"}))
    with pytest.raises(mg.MetricgradError, match=words) as error:
        mg.load_model(place / ("foreign" if "metric" in options else "sound"), **options)
    assert "\n" not in str(error.value)


def test_what_is_there_is_not_written_over(place, tmp_path):
    with pytest.raises(mg.MetricgradError, match="holds a model already"):
        quick(CLASSES, 3).save(place / "sound")
    (tmp_path / "file").write_text("")
    with pytest.raises(mg.MetricgradError, match="cannot be a folder"):
        quick(CLASSES, 3).save(tmp_path / "file")
    with pytest.raises(mg.MetricgradError, match="holds no model"):
        mg.load_model(tmp_path, model=net)


def test_state_that_is_no_tensor_is_told(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"words": 3}

        def set_extra_state(self, state):
            pass

    with pytest.raises(mg.MetricgradError, match="'_extra_state' is a dict"):
        mg.FitResult(Odd(5, 3), mg.as_metric("accuracy")).save(tmp_path)


def test_spoiled_folders_are_taken_or_refused_and_nothing_else(place, tmp_path):
    rng, taken, told = random.Random(0), 0, []
    card = json.loads((place / "sound" / "card.json").read_text())
    for number in range(150):
        spoiled = tmp_path / f"{number}"
        shutil.copytree(place / "sound", spoiled)
        path = rng.choice(sorted(spoiled.iterdir()))
        if path.name == "card.json" and rng.random() < 0.8:
            path.write_text(dumped(spoil_json(card, rng), rng))
        else:
            path.write_bytes(spoil_bytes(path.read_bytes(), rng))
            files = {name: hashlib.sha256((spoiled / name).read_bytes()).hexdigest() for name in card["files"]}
            if path.name != "card.json":
                (spoiled / "card.json").write_text(json.dumps({**card, "files": files}))
        try:
            mg.load_model(spoiled, model=net).predict(X)
            taken += 1
        except mg.MetricgradError as error:
            told.append(str(error))
    assert not [words for words in told if "\n" in words]
    assert taken > 5
    assert len(told) > 20
