"""Counts by hand, and the curve against scikit-learn."""

import pytest
import torch
from sklearn.metrics import precision_recall_curve

import metricgrad as mg
from metricgrad.comparison.report.predictions import CURVE_POINTS, SCATTER_POINTS, predictions_of
from metricgrad.decisions.identity import Identity
from metricgrad.decisions.threshold import Threshold


def test_confusion_of_classes_under_offsets_and_without():
    scores = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.9, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    offsets = mg.decisions.Offsets([0.0, 0.5, 0.0])
    found = predictions_of(mg.as_metric("accuracy"), offsets, scores, torch.tensor([0, 1, 2, 2]))
    assert found["confusion"]["undecided"] == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert found["confusion"]["decided"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert "curve" not in found


def test_curve_of_two_classes_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(80, generator=generator).mul(4).round().div(4)  # with ties
    targets = (scores + torch.randn(80, generator=generator) > 0.5).long()
    found = predictions_of(mg.as_metric("f1"), Threshold(0.5), scores, targets)
    precision, recall, _ = precision_recall_curve(targets, scores)
    assert found["curve"]["recall"] == pytest.approx(recall[:-1][::-1], abs=1e-5)
    assert found["curve"]["precision"] == pytest.approx(precision[:-1][::-1], abs=1e-5)
    (true_negative, _), (_, true_positive) = found["confusion"]["decided"]
    assert true_positive == int(((scores > 0.5) & (targets == 1)).sum())
    assert true_negative == int(((scores <= 0.5) & (targets == 0)).sum())


def test_calibration_of_a_model_that_is_half_right_and_wholly_sure():
    scores = torch.tensor([20.0, 20.0, -20.0, -20.0])
    found = predictions_of(mg.as_metric("f1"), Identity(), scores, torch.tensor([1, 0, 0, 0]))
    assert found["calibration"] == {"said": [pytest.approx(0, abs=1e-6), pytest.approx(1)], "seen": [0.0, 0.5],
                                    "items": [2, 2]}  # fmt: skip


def test_size_is_bounded():
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    of_two = predictions_of(mg.as_metric("f1"), Identity(), scores, (scores > 0).long())
    assert len(of_two["curve"]["recall"]) == CURVE_POINTS
    assert len(predictions_of(mg.as_metric("mae"), Identity("value"), scores, scores)["points"]) == SCATTER_POINTS


def test_rows_count_as_much_as_they_weigh():
    generator = torch.Generator().manual_seed(1)
    scores, weight = torch.randn(60, generator=generator), torch.randint(0, 4, (60,), generator=generator)
    targets = (scores + torch.randn(60, generator=generator) > 0.5).long()
    for columns, decision in ((scores, Threshold(0.5)), (torch.stack([-scores, scores], 1), Identity("argmax"))):
        repeated = [part.repeat_interleave(weight, 0) for part in (columns, targets)]
        found = predictions_of(mg.as_metric("accuracy"), decision, columns, targets, weight.float())
        assert found.pop("weighted")
        expected = predictions_of(mg.as_metric("accuracy"), decision, *repeated)
        assert found["confusion"] == expected["confusion"]
        assert found["calibration"]["seen"] == pytest.approx(expected["calibration"]["seen"])
        assert found["calibration"]["items"] == expected["calibration"]["items"]
        curves = [set(zip(*one["curve"].values(), strict=True)) for one in (found, expected) if "curve" in one]
        assert curves == [] or curves[0] == curves[1]


def test_dots_of_a_regression_are_rows_as_often_as_they_weigh():
    targets = torch.arange(6.0)
    found = predictions_of(
        mg.as_metric("mae"), Identity("value"), targets + 0.5, targets, torch.tensor([0.0, 1, 2, 0, 3, 0])
    )
    assert found["weighted"]
    assert sorted(found["points"]) == [[1, 1.5], *[[2, 2.5]] * 2, *[[4, 4.5]] * 3]
    assert "weighted" not in predictions_of(mg.as_metric("mae"), Identity("value"), targets, targets)


def test_what_has_no_such_picture():
    labels = torch.randn(6, 3), torch.ones(6, 3).long()
    assert predictions_of(mg.as_metric("f1"), Identity(), *labels) is None
    assert (
        predictions_of(mg.as_metric("map_at_r"), Identity(), torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2]))
        is None
    )


def test_what_the_metric_ignores_is_in_no_count():
    scores, targets = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    spoilt = torch.where(torch.arange(30) % 5 == 0, -100, targets)
    found = predictions_of(mg.as_metric("accuracy", ignore_index=-100), Identity("argmax"), scores, spoilt)
    kept = spoilt >= 0
    assert found == predictions_of(mg.as_metric("accuracy"), Identity("argmax"), scores[kept], targets[kept])
    two = predictions_of(mg.as_metric("f1", pos_label=2), Identity(), scores[:, 0], targets % 2 + 1)
    assert two is None
