"""The push of a loss against the derivative of cross-entropy, the mismatch against `mg.mismatch`."""

import pytest
import torch

import metricgrad as mg
from metricgrad.comparison.report import evidence_file
from metricgrad.comparison.report.loss_pictures import curriculum_of, is_learned, mismatch_seen, push_of
from metricgrad.systems.by_name import make_loss
from tests.comparison.report.studies import evidence


def test_push_is_one_less_the_probability_of_the_right_class():
    found = push_of(torch.nn.CrossEntropyLoss(), outputs=4)
    right = torch.tensor(found["score"]).exp() / (torch.tensor(found["score"]).exp() + 3)
    expected = (1 - right) / (1 - right).max()
    assert found["push"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_push_of_one_score_is_mean_of_both_targets():
    found = push_of(mg.AdaLFL(num_outputs=1, kind="binary").eval(), outputs=None)
    assert max(map(abs, found["push"])) == 1
    assert found["push"][0] > found["push"][-1]


def test_what_moves_is_learned_and_what_stays_is_not():
    assert is_learned(mg.AdaLFL(num_outputs=3))
    assert is_learned(mg.ReLoss.pretrained("accuracy"))
    assert is_learned(mg.ALA("accuracy", num_outputs=3))
    assert not is_learned(torch.nn.CrossEntropyLoss())
    assert not is_learned(make_loss("ala_static", "accuracy"))
    assert not is_learned(mg.UniLoss("accuracy"))  # its weight is a knob that nobody turns


def test_what_says_nothing_of_such_rows_has_no_shape():
    assert push_of(make_loss("triplet", "map_at_r"), outputs=3) is None


def test_mismatch_is_that_of_the_library():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (300,), generator=generator)
    scores = torch.randn(300, 3, generator=generator) + 2 * torch.nn.functional.one_hot(targets, 3)
    loss = torch.nn.CrossEntropyLoss()
    found = mismatch_seen(loss, mg.as_metric("accuracy"), scores, targets)
    assert found["value"] == pytest.approx(mg.mismatch(loss, "accuracy", scores, targets, blocks=100).value)
    assert all(0 <= value <= 1 for _, value in found["points"])
    assert "32" in mismatch_seen(loss, mg.as_metric("accuracy"), scores[:9], targets[:9])["missing"]


def test_mismatch_is_of_rows_as_often_as_they_weigh():
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(200) % 2
    scores = torch.randn(200, generator=generator) + (2 * targets - 1) * torch.where(torch.arange(200) < 100, 4, -4)
    args = torch.nn.BCEWithLogitsLoss(), mg.as_metric("accuracy"), scores, targets.float()
    first_half = mismatch_seen(*args, (torch.arange(200) < 100).float())
    assert first_half["weighted"]
    assert min(value for _, value in first_half["points"]) > 0.9  # the other half is all wrong
    assert max(value for _, value in mismatch_seen(*args)["points"]) < 0.8


def test_curriculum_of_a_loss_whose_knobs_were_turned(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(120, 4)
    y = x[:, :3].argmax(1)
    loss = mg.ALA("accuracy", num_outputs=3)
    assert curriculum_of(loss) is None
    parts = (x[:60], y[:60]), (x[60:], y[60:])
    mg.fit(torch.nn.Linear(4, 3), *parts, metric="accuracy", loss=loss, epochs=30, batch_size=20, progress=False)
    found = curriculum_of(loss)
    evidence_file.keep(tmp_path, "ala", {}, {**evidence(), "curriculum": found})
    assert evidence_file.kept(tmp_path, "ala", {})["curriculum"] == found
    assert found["of"] == len(found["knobs"])
    assert all(len(values) == len(found["step"]) > 1 for values in found["knobs"].values())
