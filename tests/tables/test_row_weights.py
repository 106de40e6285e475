"""A column of weights: rows that count more, less, or not at all, in training, in the metric and in the decision."""

import numpy as np
import pytest
import torch

import metricgrad as mg
from metricgrad.tables.task import task_of_table
from tests.tables.frames import people

PEOPLE = {"target": "left", "metric": "f1"}


def with_lies(rows=300):
    """People of whom a third say the opposite, and weigh nothing."""
    frame = people(rows)
    lies = np.arange(rows) % 3 == 0
    frame["left"] = np.where(lies, np.where(frame["left"] == "yes", "no", "yes"), frame["left"])
    return frame.assign(weight=np.where(lies, 0, 2.5)), lies


def test_a_weight_is_no_feature_and_is_said():
    frame, _ = with_lies()
    task = task_of_table(frame, **PEOPLE, weight="weight")
    assert "weight" not in {column.name for column in task.schema.columns}
    told = "\n".join(task.describe())
    assert "weight: 'weight'" in told
    assert "rows weigh from 0 to 2.5 by 'weight' (100 of them nothing), in training" in told
    inputs, targets, weights = task.load(0)[2]
    assert len(inputs) == len(targets) == len(weights)
    assert set(weights.tolist()) == {0.0, 2.5}


@pytest.mark.parametrize(
    ("rows", "value", "said"),
    [
        (3, -1.0, "weight 'w' is '-1.0' in row 4, and a weight is a number from 0 up"),
        (5, None, "weight 'w' is 'nan' in row 6"),
        (slice(None), 0.0, "weight 'w' is 0 in every row"),
        (0, "much", "weight 'w' is 'much' in row 1"),
    ],
)
def test_what_is_no_weight_takes_one_sentence(rows, value, said):
    frame = people().assign(w=1.0)
    if isinstance(value, str):
        frame["w"] = frame["w"].astype(object)
    frame.loc[rows, "w"] = value
    with pytest.raises(mg.MetricgradError, match=said):
        task_of_table(frame, **PEOPLE, weight="w")


def test_a_row_without_a_target_needs_no_weight_and_is_counted_where_another_is_wrong():
    frame = people().assign(w=1.0)
    frame.loc[[0, 2], "left"] = None
    frame.loc[2, "w"] = None
    assert len(task_of_table(frame, **PEOPLE, weight="w").load(0)[0][2]) > 0
    frame.loc[5, "w"] = -1.0
    with pytest.raises(mg.MetricgradError, match=r"'-1.0' in row 6"):
        task_of_table(frame, **PEOPLE, weight="w")


def test_a_metric_without_weights_is_refused():
    def share(scores, targets):
        return ((scores > 0) == targets).mean()

    metric = mg.as_metric(share, higher_is_better=True, reads="labels")
    with pytest.raises(mg.MetricgradError, match="takes no sample_weight, so weight='w' cannot count"):
        task_of_table(people().assign(w=1.0), target="left", metric=metric, weight="w")


@pytest.mark.parametrize("loss", ["cross_entropy", "uniloss", "lightgbm"])
def test_rows_that_weigh_nothing_teach_and_judge_nothing(loss):
    frame, lies = with_lies()
    model = mg.train_table(task_of_table(frame, **PEOPLE, weight="weight"), loss=loss, progress=False)
    alike = model.predict(frame) == frame["left"].to_numpy()
    assert alike[~lies].mean() > 0.75
    assert alike[lies].mean() < 0.25
    assert model.evaluate([frame]).decided == pytest.approx(model.evaluate([frame[~lies]]).decided, abs=1e-6)
    even = model.evaluate([frame.assign(even=1)], weight="even").decided
    assert even < model.evaluate([frame]).decided - 0.1
    with pytest.raises(mg.MetricgradError, match="has no column 'weight', which says how much its rows weigh"):
        model.evaluate([frame.drop(columns="weight")])


def test_equal_weights_are_as_none():
    frame = people()
    plain, even = (
        mg.train_table(task_of_table(some, **PEOPLE, **given), loss="cross_entropy", progress=False)
        for some, given in ((frame, {}), (frame.assign(w=0.3), {"weight": "w"}))
    )
    assert torch.equal(plain.scores(frame), even.scores(frame))
    assert plain.card["test"] == pytest.approx(even.card["test"])


@pytest.mark.parametrize("method", ["offsets", "ordinal_cuts", "plug_in"])
def test_decisions_are_fitted_to_what_weighs(method):
    r = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (1500,), generator=r)
    scores = torch.nn.functional.one_hot(targets, 3) * 2.0 + 2 * torch.randn(1500, 3, generator=r)
    lies = torch.rand(1500, generator=r) < 0.7
    told = torch.where(lies, 0, targets)  # most of the rows say 0, and weigh nothing
    found, fooled = (
        mg.fit_decision("quadratic_kappa", scores, told, method=method, sample_weight=weight)
        for weight in ((~lies).double(), None)
    )
    values = [float(mg.as_metric("quadratic_kappa")(each(scores), targets)) for each in (found, fooled)]
    assert values[0] > values[1] + 0.03


def test_an_operating_point_weighs_rows():
    r = torch.Generator().manual_seed(1)
    targets = (torch.rand(200, generator=r) < 0.3).long()
    scores = torch.randn(200, generator=r) + 2 * targets
    weight = torch.randint(0, 3, (200,), generator=r)
    metric = "recall_at_precision:precision=0.8"
    found = mg.fit_decision(metric, scores, targets, sample_weight=weight.double())
    kept = scores.repeat_interleave(weight), targets.repeat_interleave(weight)
    cut = mg.fit_decision(metric, *kept)
    assert torch.equal(found(scores)[weight > 0] > 0, cut(scores)[weight > 0] > 0)
