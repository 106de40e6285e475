"""What older versions saved still loads, says what it said, and goes on where it stopped.

A mend that changes a number on purpose is named in :data:`CHANGED` with its reason; the file must load all the same.
"""

import json
import math
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import metricgrad as mg
from metricgrad.grid import ALIGNERS, FORMS
from tests.fixtures import trainings as t

HERE = Path(t.__file__).parent
VERSIONS = ["v0_1"]


def _cells(version):
    with tarfile.open(HERE / f"{version}.tar.xz") as archive:
        return [Path(name).stem for name in archive.getnames() if name.startswith("cells/")]


CELLS = [(version, cell) for version in VERSIONS for cell in _cells(version)]

#: cell, run or "study" -> why it no longer gives the stored numbers
CHANGED: dict[str, str] = {
    **dict.fromkeys(
        (
            "inverse-distance-ap",
            "inverse-distance-macro-f1",
            "paper-accuracy",
            "paper-ap",
            "released-accuracy",
            "fit-uniloss",
        ),
        "anchors are drawn by what rows hold, not by their order: permuting rows permutes gradients",
    ),
    "uniloss-auroc-columns": "odds that are equal at the precision of the logits are ties",
    "uniloss-ndcg": "gains are taken relative to the largest, which rounds anew",
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for version in VERSIONS:
        with tarfile.open(HERE / f"{version}.tar.xz") as archive:
            archive.extractall(root / version, filter="data")
    return root


@pytest.fixture(scope="module", params=VERSIONS)
def saved(request, unpacked):
    return unpacked / request.param


@pytest.fixture(scope="module")
def expected(saved):
    return json.loads((saved / "expected.json").read_text())


@pytest.fixture(scope="module")
def cells_expected(unpacked):
    return {version: load_file(unpacked / version / "cells_expected.safetensors") for version in VERSIONS}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_near(found, stored, what, tolerance=1e-6):
    """Equal up to a share of the largest entry: other processors round otherwise."""
    found, stored = (torch.as_tensor(x).double() for x in (found, stored))
    assert found.shape == stored.shape, what
    assert torch.equal(found.isnan(), stored.isnan()), f"{what} is NaN elsewhere than what was stored"
    found, stored = found.nan_to_num(), stored.nan_to_num()
    apart = float((found - stored).abs().max() / stored.abs().max().clamp(min=1e-6))
    assert apart <= tolerance, f"{what} is {apart:.1e} of its largest entry away from what was stored"


def test_the_next_version_saves_every_form_and_aligner():
    assert (FORMS.keys(), ALIGNERS.keys()) == t.KINDS


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_a_saved_loss_gives_its_value_and_gradient_and_trains_on(unpacked, cells_expected, version, name):
    _, layout = t.cells()[name]
    path = unpacked / version / "cells" / f"{name}.safetensors"
    loss = mg.load_loss(path, t.foreign() if "foreign" in name else None)
    found = t.reached(loss, layout)
    if name in CHANGED:
        assert all(torch.isfinite(value).all() for value in found.values())
        return
    for key, value in found.items():
        tolerance = 1e-5 if key in ("weights", "form") else 1e-6  # steps multiply what rounding did to the first
        assert_near(value, cells_expected[version][f"{name}/{key}"], f"{name}: {key}", tolerance)


@pytest.mark.parametrize(("version", "name"), CELLS)
def test_a_saved_loss_is_saved_again_as_it_is(unpacked, tmp_path, version, name):
    own = t.foreign() if "foreign" in name else None
    first = mg.load_loss(unpacked / version / "cells" / f"{name}.safetensors", own)
    first.save(tmp_path / "again.safetensors")
    again = mg.load_loss(tmp_path / "again.safetensors", own)
    ours, theirs = first.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        same = value.nan_to_num().equal(theirs[key].nan_to_num()) if torch.is_tensor(value) else value == theirs[key]
        assert same, key  # NaN is a softness that no batch has set yet


@pytest.mark.parametrize("name", ["classification_family", "correlation_matrix"])
def test_a_saved_policy_moves_as_it_did(saved, name):
    make, layout = t.cells()[f"{name}-policy"]
    found = t.under_policy(saved / "policies" / f"{name}.safetensors", make().form, layout)
    if f"policy {name}" not in CHANGED:
        assert_near(found, load_file(saved / "policies_expected.safetensors")[name], name)


def assert_outcome(found, stored, name):
    if name in CHANGED:
        return
    assert len(found["histories"]) == len(stored["histories"])
    for ours, theirs in zip(found["histories"], stored["histories"], strict=True):
        assert [row.keys() for row in ours] == [row.keys() for row in theirs], name
        values = [[row[key] for row in rows for key in row] for rows in (ours, theirs)]
        assert_near(*values, f"{name}: history", 1e-5)
    assert_near(found["scores"], stored["scores"], f"{name}: scores", 1e-4)


@pytest.mark.parametrize("name", t.runs())
def test_a_run_that_was_cut_ends_as_an_undisturbed_one(saved, expected, tmp_path, name):
    folder = shutil.copytree(saved / "runs" / f"{name}-cut", tmp_path / "run")
    assert_outcome(t.outcome(t.runs()[name](folder)), expected["runs"][name], name)
    assert (folder / "result.json").exists()


@pytest.mark.parametrize("name", t.runs())
def test_a_finished_run_comes_back_without_training(saved, expected, tmp_path, name):
    folder = shutil.copytree(saved / "runs" / f"{name}-finished", tmp_path / "run")
    found = t.runs()[name](folder, cut=1)  # a judgement would end it
    assert_outcome(t.outcome(found), expected["runs"][name], name)


@pytest.mark.parametrize("state", ["finished", "cut"])
def test_a_study_of_an_earlier_schema_is_refused_in_one_sentence_and_left_as_it_is(saved, tmp_path, state):
    folder = shutil.copytree(saved / "studies" / state, tmp_path / "study")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(mg.MetricgradError, match="holds a study of schema 1, whose runs do not say"):
        t.study(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_fitted_loss_keeps_its_report(saved, expected):
    recorded = load_file(saved / "reloss" / "recorded.safetensors")
    loss = mg.load_loss(saved / "reloss" / "reloss.safetensors").eval()
    value = float(loss(recorded["scores"], recorded["targets"]))
    assert math.isclose(value, expected["reloss"]["value"], rel_tol=1e-6)
    assert loss.aligner.report == expected["reloss"]["report"]


def test_recorded_scores_fit_a_loss(saved):
    recorded = load_file(saved / "reloss" / "recorded.safetensors")
    loss = mg.ReLoss.fit("macro_f1", recorded["scores"], recorded["targets"], steps=5, block=16, values=16)
    assert set(loss.report()) >= {"correlation", "cross_entropy", "difference", "beats_standard"}
