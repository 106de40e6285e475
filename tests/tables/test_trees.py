"""LightGBM's trees, grown and read again from their text: the same scores, and nothing taken on trust."""

import random
import re

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.fuzz.spoiling import spoil_bytes

import metricgrad as mg
from metricgrad.tables.boosting import fit_trees
from metricgrad.tables.preprocessing import Layout
from metricgrad.tables.task import task_of_table
from metricgrad.tables.trees import BoostedTrees, restored
from tests.tables.frames import grades, people, prices

LAYOUT = Layout(3, (0, 2), (9, 4))


def grown(objective="binary", classes=1, rows=600, **options):
    """A model of numbers with gaps and of categories, its inputs, and LightGBM's own scores."""
    r = np.random.default_rng(0)
    numbers, codes = r.normal(size=(rows, 3)), np.stack([r.integers(0, n, rows) for n in LAYOUT.levels], 1)
    gaps = r.random((rows, 2)) < 0.1
    target = numbers[:, 0] * ~gaps[:, 0] + (codes[:, 0] % 2) + numbers[:, 1] ** 2 + r.normal(0, 0.3, rows)
    y = np.digitize(target, np.quantile(target, np.linspace(0, 1, max(classes, 2) + 1)[1:-1]))
    x = torch.tensor(np.concatenate([numbers, gaps, codes], 1), dtype=torch.float32)
    matrix = restored(x, LAYOUT).double().numpy()
    known = lightgbm.Dataset(matrix, target if objective == "regression" else y, categorical_feature=[3, 4])
    shared = {"objective": objective, "verbosity": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    booster = lightgbm.train({**shared, **({"num_class": classes} if classes > 1 else {}), **options}, known, 12)
    unseen = torch.cat([x, x[:1]])
    unseen[-1, 5] = 8.0
    return booster, unseen, booster.predict(restored(unseen, LAYOUT).double().numpy(), raw_score=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "regression"},
        {"objective": "multiclass", "classes": 3},
        {"use_missing": False},
        {"zero_as_missing": True},
        {"max_cat_to_onehot": 20},
        {"min_data_in_leaf": 500},
        {"num_leaves": 2},
    ],
)
def test_scores_are_those_of_lightgbm(options):
    booster, x, wanted = grown(**options)
    outputs = options.get("classes")
    trees = BoostedTrees(booster.model_to_string(), LAYOUT, outputs)
    assert trees(x).dtype == torch.float32
    assert np.array_equal(trees(x).numpy(), wanted.astype(np.float32))
    assert torch.equal(trees(x[:0]), trees(x)[:0])


def presence(rows=1500):
    """A column that is there for most positives and few negatives, beside noise."""
    r = np.random.default_rng(0)
    y = r.random(rows) < 0.3
    there = r.random(rows) < np.where(y, 0.6, 0.05)
    x = r.normal(size=(rows, 2))
    x[~there, 0] = np.nan
    return x, y


def test_a_split_by_whether_a_number_is_there_is_read_as_lightgbm_reads_it():
    x, y = presence()
    options = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y.astype(float)), 20)
    assert "threshold=inf" in booster.model_to_string()
    inputs = np.column_stack([np.nan_to_num(x), np.isnan(x[:, 0])])
    inputs[:3, 0] = [0.0, 1e30, -1e30]
    trees = BoostedTrees(booster.model_to_string(), Layout(2, (0,), ()), None)
    told = torch.tensor(inputs, dtype=torch.float32)
    wanted = booster.predict(restored(told, trees.layout).double().numpy(), raw_score=True)
    assert np.array_equal(trees(told).numpy(), wanted.astype(np.float32))

    frame = pd.DataFrame({"referrer": x[:, 0], "z": x[:, 1], "y": np.where(y, "yes", "no")})
    task = task_of_table(frame, target="y", metric="f1")
    train, valid, test = task.load(0)
    result = fit_trees(train, valid, layout=Layout.of(task.schema), target=task.schema.target, metric=task.judged_by())
    assert "threshold=inf" in result.model.text
    assert result.evaluate(test) > 0.5


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r"^tree\n", "forest\n"),
        (r"max_feature_idx=4", "max_feature_idx=400"),
        (r"left_child=\S+", "left_child=0"),
        (r"left_child=\S+", "left_child=99"),
        (r"split_feature=\S+", "split_feature=7"),
        (r"decision_type=\S+", "decision_type=64"),
        (r"threshold=\S+", "threshold=nan"),
        (r"leaf_value=\S+", "leaf_value=inf"),
        (r"leaf_value=\S+ ", "leaf_value="),
        (r"leaf_value=", "leaf_valu="),
        (r"cat_boundaries=\S+", "cat_boundaries=9"),
        (r"cat_threshold=\S+", "cat_threshold=-1"),
        (r"num_leaves=\d+", "num_leaves=999999999"),
        (r"is_linear=0", "is_linear=1"),
        (r"num_tree_per_iteration=1", "num_tree_per_iteration=0"),
        (r"end of trees", ""),
    ],
)
def test_a_text_that_contradicts_itself_is_refused(pattern, new):
    text = grown(num_leaves=8)[0].model_to_string()
    spoiled = re.sub(pattern, new, text, flags=re.MULTILINE)
    assert spoiled != text
    with pytest.raises(mg.MetricgradError):
        BoostedTrees(spoiled, LAYOUT, None)


def test_spoiled_texts_are_taken_or_refused_and_nothing_else():
    booster, x, _ = grown(num_leaves=4)
    raw, rng, taken = booster.model_to_string().encode(), random.Random(0), 0
    for _ in range(300):
        try:
            trees = BoostedTrees(spoil_bytes(raw, rng).decode("utf-8", "replace"), LAYOUT, None)
        except mg.MetricgradError:
            continue
        taken += 1
        assert trees(x[:5]).shape == (5,)
    assert 0 < taken < 300


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (people(400), {"target": "left", "metric": "f1"}),
        (grades(), {"target": "grade", "metric": "quadratic_kappa", "classes": ["low", "medium", "high"]}),
        (prices(), {"target": "price", "metric": "r2"}),
    ],
)
def test_trees_learn_and_are_delivered_as_a_network_is(frame, options):
    task = task_of_table(frame, **options)
    train, valid, test = task.load(0)
    given = {"layout": Layout.of(task.schema), "target": task.schema.target, "metric": task.judged_by()}
    result = fit_trees(train, valid, **given)
    assert result.evaluate(test) > 0.5
    assert result.predict(test[0]).shape == test[1].shape
    again = fit_trees(train, valid, **given)
    assert torch.equal(again.predict_scores(test), result.predict_scores(test))
    assert result.model.rounds >= 1
    assert [row["epoch"] for row in result.history] == sorted({row["epoch"] for row in result.history})
