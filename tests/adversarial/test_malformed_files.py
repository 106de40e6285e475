"""Files that lie: nothing is imported or run for them, no memory is asked for, and each is one sentence."""

import contextlib
import json
import random
import sys

import pytest
import torch
from benchmarks.fuzz.spoiling import dumped, spoil_bytes, spoil_json, spoil_tensors
from safetensors import safe_open
from safetensors.torch import save, save_file

import metricgrad as mg
from metricgrad import serialization as headed_file
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.json_types import checked_arguments, fits, parse
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from tests.contract.registry import LOSSES


def header_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["metricgrad"]), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def rewrite(path, header, tensors):
    save_file(tensors, path, metadata={"metricgrad": json.dumps(header)})


def changed(path, edit):
    header, tensors = header_of(path)
    edit(header, tensors)
    rewrite(path, header, tensors)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.py").write_text(f"open({str(sprung)!r}, 'w')\ndef fn(scores, targets):\n    return 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield sprung
    sys.modules.pop("trap", None)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "loss.safetensors"
    mg.UniLoss("f1", anchored=False).save(path)
    return path


@pytest.mark.parametrize("named", ["trap:fn", "trap:fn:higher_is_better=True", "sklearn.metrics:f1_score", "os:system"])
def test_a_file_names_no_metric_to_import(saved, trap, named):
    changed(saved, lambda header, _: header["form"][1].update(metric=named))
    with pytest.raises(mg.MetricgradError, match=r"loss\.safetensors: .*not built in; pass it again: metric="):
        mg.load_loss(saved)
    assert not trap.exists()
    assert mg.load_loss(saved, metric="accuracy").form.metric.name == "accuracy"
    assert not trap.exists()


def test_nor_does_an_objective_or_an_aligner_in_it(tmp_path, trap):
    inner, outer = tmp_path / "inner.safetensors", tmp_path / "outer.safetensors"
    mg.AdaLFL(num_outputs=3, objective=mg.UniLoss("macro_f1", anchored=False)).save(outer)
    changed(outer, lambda header, _: header["aligner"][1]["objective"]["form"][1].update(metric="trap:fn"))
    mg.ALA("accuracy", num_outputs=3).save(inner)
    changed(inner, lambda header, _: header["aligner"][1].update(metric="trap:fn"))
    for path in (inner, outer):
        with pytest.raises(mg.MetricgradError, match="pass it again"):
            mg.load_loss(path)
    assert not trap.exists()


def learned_policy(path):
    loss = mg.ALA("accuracy", num_outputs=3, learner="reinforce", warm_up=0)
    scores, targets = torch.randn(16, 3), torch.arange(16) % 3
    for _ in range(4):
        loss.observe(scores, targets)
    loss.aligner.save(path)


def test_nor_does_a_policy(tmp_path, trap):
    path = tmp_path / "policy.safetensors"
    learned_policy(path)
    assert Policy.load(path).metric.name == "accuracy"
    changed(path, lambda header, _: header["policy"].update(metric="trap:fn"))
    with pytest.raises(mg.MetricgradError, match=r"policy\.safetensors: .*pass it again"):
        Policy.load(path)
    assert not trap.exists()
    assert Policy.load(path, "f1").metric.name == "f1"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda h, t: h["form"][1].update(q="much"), "q is 'much'; expected float"),
        (lambda h, t: h["form"][1].update(anchors=True), "anchors is True; expected int"),
        (lambda h, t: h["form"][1].update(anchors=-3), "anchors is -3"),
        (lambda h, t: h["form"][1].update(anchors=16 * 10**9), "anchors is 16000000000; expected at most 10,000"),
        (lambda h, t: h["form"][1].update(nonsense=1), "no option 'nonsense'"),
        (lambda h, t: h.update(form=["unheard_of", {}]), "'unheard_of' is unknown"),
        (lambda h, t: h.update(form={"a": 1}), "describes no part"),
        (lambda h, t: h.update(aligner=["static", []]), "expected them by name"),
        (lambda h, t: h.pop("aligner"), "None describes no part"),
        (lambda h, t: h.update(seed="0"), "seed is '0'"),
        (lambda h, t: h.update(extra=[]), "extra is"),
        (lambda h, t: h["extra"].update({"form._extra_state": {"kind": "labels"}}), "no state of Interpolated"),
        (lambda h, t: h.update(format=2), "not written by Loss.save of this version"),
        (lambda h, t: t.update(steps=torch.tensor(-1)), "'steps' counts"),
        (lambda h, t: t.update(steps=torch.tensor(1.5)), "dtype torch.float32; expected torch.int64"),
        (lambda h, t: t.update(steps=torch.zeros(3, dtype=torch.long)), "size mismatch for steps"),
        (lambda h, t: t.update(more=torch.zeros(3)), "Unexpected key"),
        (lambda h, t: t.pop("steps"), "Missing key"),
        (lambda h, t: t.update(steps=torch.tensor(1, dtype=torch.int8)), "which no loss has"),
        (lambda h, t: t.update({"form.log_softness": torch.tensor(float("inf"))}), None),
    ],
)
def test_a_malformed_loss_is_one_sentence_that_names_the_file(saved, edit, words):
    changed(saved, edit)
    if words is None:  # softness="once" begins as NaN, which stands for "not set yet"
        mg.load_loss(saved)
        return
    with pytest.raises(mg.MetricgradError, match=r"loss\.safetensors") as caught:
        mg.load_loss(saved)
    assert words in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_network_of_numbers_that_are_not_finite_is_refused(tmp_path, number):
    path = tmp_path / "loss.safetensors"
    mg.AdaLFL(num_outputs=3, anchored=False).save(path)
    changed(path, lambda _, tensors: tensors["form.layers.1.weight"][2, 3:4].fill_(number))
    with pytest.raises(mg.MetricgradError, match=r"loss\.safetensors: tensor 'form\.layers\.1\.weight' has NaN"):
        mg.load_loss(path)


@pytest.mark.parametrize("size", [10**9, 2**40, 2**62])
def test_a_size_is_refused_before_memory_is_asked_for(tmp_path, size):
    path = tmp_path / "loss.safetensors"
    mg.Loss(CorrelationMatrix(5)).save(path)
    changed(path, lambda header, _: header["form"][1].update(num_outputs=size))
    with pytest.raises(mg.MetricgradError, match=r"loss\.safetensors"):
        mg.load_loss(path)


def test_half_and_double_precision_come_back_as_they_always_did(tmp_path):
    path = tmp_path / "loss.safetensors"
    loss = mg.AdaLFL(num_outputs=3, anchored=False)
    loss.double().save(path)
    again = mg.load_loss(path)
    assert torch.equal(again.form.beta, loss.form.beta.float())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 5000, "nested"),
        ("[" * 40 + "]" * 40, "nested deeper than 32"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_readers_disagree_on_is_refused(text, words):
    with pytest.raises(mg.MetricgradError, match=words):
        parse(text)


def test_arguments_are_checked_against_the_hints_of_the_function():
    def function(a: int, *, b: float | None = None, c: list[str] | None = None) -> None: ...

    assert checked_arguments(function, {"a": 1, "b": 2, "c": ["x"]}, "f") == {"a": 1, "b": 2, "c": ["x"]}
    for given in ({}, {"a": 1.0}, {"a": 2**63}, {"a": 1, "b": float("nan")}, {"a": 1, "c": [1]}, {"a": 1, "d": 1}, [1]):
        with pytest.raises(mg.MetricgradError, match=r"^f"):
            checked_arguments(function, given, "f")
    assert not fits(True, float)


def spoiled(rng, raw, header, tensors):
    kind = rng.random()
    if kind < 0.25:
        return spoil_bytes(raw, rng)
    if kind < 0.65:
        return save(tensors, metadata={"metricgrad": dumped(spoil_json(header, rng), rng)})
    return save(spoil_tensors(tensors, rng), metadata={"metricgrad": json.dumps(header)})


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_survives_a_spoiled_file_or_says_so(name, tmp_path, trap):
    make, data = LOSSES[name]
    path, rng = tmp_path / "loss.safetensors", random.Random(name)
    make().save(path)
    raw, (header, tensors) = path.read_bytes(), header_of(path)
    mg.load_loss(path)
    scores, targets = data(16, torch.float32)
    refused = 0
    for _ in range(8):
        path.write_bytes(spoiled(rng, raw, header, tensors))
        try:
            loss = mg.load_loss(path)
        except mg.MetricgradError as error:
            refused += 1
            assert "loss.safetensors" in str(error)  # noqa: PT017
            continue
        with contextlib.suppress(mg.MetricgradError):
            loss(scores, targets)
    assert refused
    assert not trap.exists()


def test_a_policy_survives_spoiled_files_or_says_so(tmp_path):
    path, rng = tmp_path / "policy.safetensors", random.Random(0)
    learned_policy(path)
    raw, (header, tensors) = path.read_bytes(), header_of(path)
    for _ in range(60):
        path.write_bytes(spoiled(rng, raw, header, tensors))
        try:
            Policy.load(path)
        except mg.MetricgradError as error:
            assert "policy.safetensors" in str(error)  # noqa: PT017


def test_what_is_no_file_of_ours_is_said(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(mg.MetricgradError, match="cannot read"):
            mg.load_loss(path)
    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(mg.MetricgradError, match=r"not written by Loss\.save"):
        mg.load_loss(tmp_path / "plain.safetensors")
    headed_file.write(tmp_path / "other", {}, {"policy": {}})
    with pytest.raises(mg.MetricgradError, match=r"not written by Loss\.save"):
        mg.load_loss(tmp_path / "other")
