"""Decisions on classes of pixels and tokens: fitted on their rows, held out by image, applied where the classes are."""

import pytest
import torch
from torch import nn

import metricgrad as mg

IGNORED = 255
KINDS = ("offsets", "plug_in", "ordinal_cuts")


def images(width, count=60, classes=4):
    """Classes last; one of them is hardly ever on top."""
    g = torch.Generator().manual_seed(3)
    targets = torch.randint(classes, (count, 5, width), generator=g)
    scores = torch.randn(count, 5, width, classes, generator=g) + 1.5 * nn.functional.one_hot(targets, classes)
    scores[..., 2] -= 2
    return scores, targets


def with_holes(targets):
    return targets.masked_fill(torch.rand(targets.shape, generator=torch.Generator().manual_seed(4)) < 0.1, IGNORED)


@pytest.mark.parametrize("width", [4, 7])  # with 4 both last axes could be the classes
@pytest.mark.parametrize("kind", KINDS)
def test_classes_on_axis_1_are_decided_as_classes_last(width, kind):
    scores, targets = images(width)
    last = mg.fit_decision(mg.as_metric("macro_f1", class_dim=-1), scores, targets, method=kind)
    first = mg.fit_decision(mg.as_metric("macro_f1", class_dim=1), scores.movedim(-1, 1), targets, method=kind)
    assert first.config() == last.config()
    assert torch.equal(first(scores.movedim(-1, 1)).movedim(1, -1), last(scores))
    assert torch.equal(first.predict(scores.movedim(-1, 1)), last.predict(scores))


@pytest.mark.parametrize("width", [4, 7])
def test_what_is_fitted_is_what_is_delivered(width):
    scores, targets = images(width)
    scores, targets = scores.movedim(-1, 1), with_holes(targets)
    metric = mg.as_metric("macro_f1", class_dim=1, ignore_index=IGNORED)
    decision = mg.fit_decision(metric, scores, targets)
    kept = targets != IGNORED
    rows = mg.fit_decision("macro_f1", scores.movedim(1, -1)[kept], targets[kept], method=decision.kind)
    assert decision.config() == rows.config()
    assert float(metric(decision(scores), targets)) > float(metric(scores, targets)) + 0.05


def test_pixels_are_rows_whether_or_not_some_are_ignored():
    scores, targets = images(7)
    found = mg.fit_decision("macro_f1", scores, targets)
    assert (
        found.kind
        == mg.fit_decision(mg.as_metric("macro_f1", ignore_index=IGNORED), scores, targets).kind
        != "identity"
    )


def test_rows_of_one_image_are_held_out_together():
    scores, targets = images(7, count=12)
    report = mg.fit_decision("macro_f1", scores, targets).report()
    assert report == "no decision: 12 images or sentences are too few to compare any; give 20 or more"


def test_of_many_pixels_some_are_drawn(monkeypatch):
    scores, targets = images(7)
    monkeypatch.setattr("metricgrad.decisions.rows.MOST_ROWS", 500)
    found = mg.fit_decision("macro_f1", scores, targets, seed=1)
    assert "of 500 validation rows" in found.report()
    assert found.config() == mg.fit_decision("macro_f1", scores, targets, seed=1).config()


def test_masks_are_fitted_beside_pixels_that_are_ignored():
    scores = torch.randn(60, 5, 7, generator=torch.Generator().manual_seed(5)) - 1
    targets = with_holes((scores > 0).long())
    groups = torch.arange(60)
    metric = mg.as_metric("dice", ignore_index=IGNORED)
    found = mg.fit_decision(metric, scores, targets, method="masks", groups=groups)
    masked = mg.fit_decision("dice", scores, targets % IGNORED, method="masks", groups=groups, mask=targets != IGNORED)
    assert (found.kind, found.config()) == ("masks", masked.config())


@pytest.mark.parametrize("width", [4, 7])
def test_a_segmentation_is_trained_saved_and_loaded(tmp_path, width):
    scores, targets = images(width)
    inputs, targets = scores.movedim(-1, 1), with_holes(targets)
    metric = mg.as_metric("macro_f1", class_dim=1, ignore_index=IGNORED)
    train, valid = (inputs[:30], targets[:30]), (inputs[30:], targets[30:])
    network = nn.Conv2d(4, 4, 1)
    nn.init.dirac_(network.weight)
    result = mg.fit(
        network, train, valid, metric=metric, loss="cross_entropy", lr=1e-5, epochs=1, progress=False,
        decision="offsets",
    )  # fmt: skip
    labels = result.predict(valid[0])
    assert torch.equal(labels, result.decision(result.scores(valid[0])).argmax(1))
    kept = valid[1] != IGNORED
    by_rows = mg.as_metric("macro_f1")(nn.functional.one_hot(labels[kept], 4).float(), valid[1][kept])
    assert result.evaluate(valid) == pytest.approx(float(by_rows))
    loaded = mg.load_model(result.save(tmp_path / "model"), model=nn.Conv2d(4, 4, 1))
    assert loaded.decision.class_dim == 1
    assert torch.equal(loaded.predict(valid[0]), labels)


@pytest.mark.parametrize("width", [4, 7])
def test_a_decision_made_by_hand_goes_to_the_axis_of_the_classes(width):
    scores, targets = images(width)
    inputs, metric = scores.movedim(-1, 1), mg.as_metric("macro_f1", class_dim=1)
    network, given = nn.Conv2d(4, 4, 1), mg.decisions.Offsets([0.0, 0.0, 2.0, 0.0])
    result = mg.fit(
        network, (inputs, targets), (inputs, targets), metric=metric, loss="cross_entropy", epochs=1, progress=False,
        decision=given,
    )  # fmt: skip
    found = result.scores(inputs)
    found[:, 2] += 2.0
    assert torch.equal(result.predict(inputs), found.argmax(1))
    assert given.class_dim == -1


def test_a_decision_is_made_again_from_what_it_says_of_itself():
    scores, targets = images(4)
    fitted = mg.fit_decision(mg.as_metric("macro_f1", class_dim=1), scores.movedim(-1, 1), targets, method="offsets")
    again = mg.decisions.build(**fitted.described())
    assert torch.equal(again(scores.movedim(-1, 1)), fitted(scores.movedim(-1, 1)))
