"""What is no pair of finite numbers is refused in one sentence that says where and how to mend it."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.checks import check_numbers, where_not_finite
from metricgrad.tasks.task import Task

NAN = float("nan")


def parts(n=80):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=g)
    return x, (x[:, 0] > 0).long()


def fitted(train, valid=None, metric="accuracy", outputs=2, **more):
    settings = {"loss": "cross_entropy", "epochs": 2, "progress": False, "device": "cpu"} | more
    torch.manual_seed(0)
    return mg.fit(nn.Linear(4, outputs), train, valid or parts(), metric=metric, **settings)


def compared(train, good, *, model=lambda: nn.Linear(4, 2), **more):
    task = Task("t", model=model, train=train, valid=good, test=good, metric="accuracy")
    return mg.compare(task, losses=["cross_entropy"], trials=1, seeds=1, progress=False, **more)


def broken(*entries):
    x, y = parts()
    for row, column in entries:
        x[row, column] = NAN
    return x, y


@pytest.mark.parametrize("loss", ["cross_entropy", "uniloss", "adalfl", "ala"])
def test_nan_in_inputs_is_said_where_it_is(loss):
    where = r"train inputs hold NaN in 2 of 80 rows \(rows 7, 31\), in columns 0, 2;"
    with pytest.raises(mg.MetricgradError, match=where) as caught:
        fitted(broken((7, 2), (31, 0)), loss=loss)
    assert "lr" not in str(caught.value)


def test_nan_in_validation_inputs_and_in_batches():
    with pytest.raises(mg.MetricgradError, match=r"valid inputs hold NaN in 1 of 80 rows \(row 5\), in column 3;"):
        fitted(parts(), broken((5, 3)))
    batches = DataLoader(TensorDataset(*broken((5, 3))), batch_size=80)
    with pytest.raises(mg.MetricgradError, match=r"inputs of a train batch hold NaN in 1 of 80 rows \(row 5\)"):
        fitted(batches)


def test_nan_in_targets_is_said_before_training():
    x, _ = parts()
    y = x.sum(1)
    y[[3, 4, 5, 6, 7, 8, 9]] = NAN
    where = r"targets hold NaN in 7 of 80 rows \(rows 3, 4, 5, 6, 7 and 2 more\)"
    for train, valid, name in (((x, y), parts(), "train"), ((x, x.sum(1)), (x, y), "valid")):
        with pytest.raises(mg.MetricgradError, match=f"{name} {where}"):
            fitted(train, valid, metric="mse", loss="mse", outputs=1)
    with pytest.raises(mg.MetricgradError, match=f"task 't': valid {where}"):
        Task("t", model=lambda: nn.Linear(4, 1), train=(x, x.sum(1)), valid=(x, y), test=(x, x.sum(1)))


def test_a_row_of_nan_has_no_label():
    inputs, targets = torch.randn(40, 3), torch.arange(40) % 2
    result = mg.fit(nn.Linear(3, 1), (inputs, targets), (inputs, targets), metric="f1", loss="cross_entropy", epochs=1)
    inputs = inputs.clone()
    inputs[[3, 7], 1] = torch.nan
    assert result.predict_scores(inputs).isnan().nonzero()[:, 0].tolist() == [3, 7]
    for answer in (result.predict, result.predict_proba):
        with pytest.raises(mg.MetricgradError, match=r"NaN in 2 of 40 rows \(rows 3, 7\).*look at the inputs"):
            answer(inputs)


def test_nan_from_the_training_itself_names_the_learning_rate():
    with pytest.raises(mg.MetricgradError, match=r"non-finite.*lower lr"):
        fitted(
            parts(),
            lr=1e30,
            loss="mse",
            metric="mse",
            outputs=1,
            epochs=20,
            optimizer=lambda p: torch.optim.SGD(p, 1e30),
        )


def test_compare_says_where_the_nan_is_too(tmp_path):
    good = parts()
    task = Task("t", model=lambda: nn.Linear(4, 2), train=broken((7, 2)), valid=good, test=good, metric="accuracy")
    with pytest.raises(mg.MetricgradError, match=r"train inputs hold NaN in 1 of 80 rows \(row 7\), in column 2"):
        mg.compare(task, losses=["cross_entropy"], trials=1, seeds=1, out=tmp_path, progress=False)


X, Y = np.zeros((6, 4), "float32"), np.arange(6) % 2
WORDS = np.array(["cat", "dog"] * 3)
BAD_DATA = {
    "lists": ((X.tolist(), Y.tolist()), r"train is made of lists; pass tensors or arrays: train=\(np\.asarray"),
    "list and array": ((X, Y.tolist()), "train is made of lists"),
    "labels in words": (
        (X, WORDS),
        r"train targets hold text \('cat', 'dog'\).*LabelEncoder\(\)\.fit_transform\(targets\)",
    ),
    "labels in a series": ((X, pd.Series(WORDS)), "train targets hold text"),
    "objects": ((X, np.array([1, None] * 3, dtype=object)), "train targets are an array of dtype object.*float32"),
    "columns of words": ((pd.DataFrame({"a": Y, "b": WORDS}), Y), "train inputs hold text"),
    "inputs alone": (torch.zeros(6, 4), r"train is a Tensor alone; pass inputs and targets: train=\(inputs, targets\)"),
    "a frame alone": (pd.DataFrame(X), "train is a DataFrame alone"),
    "a dict": ({"x": X, "y": Y}, "train is a dict; pass train="),
    "a path": ("data.csv", "train is a str; pass train="),
    "lengths": ((X, Y[:5]), "train has 6 inputs but 5 targets"),
    "nothing": ((X[:0], Y[:0]), "train is empty"),
    "no targets": ((X, None), "train is made of lists|train"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_are_no_pair_of_arrays(case):
    data, words = BAD_DATA[case]
    with pytest.raises(mg.MetricgradError, match=words):
        fitted(data)
    if data is not None:
        good = (X, Y)
        with pytest.raises(mg.MetricgradError, match=words.replace("train", "(task 't': )?train")):
            compared(data, good)


@pytest.mark.parametrize(
    "wrap", [np.asarray, lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a), torch.as_tensor]
)
def test_arrays_and_frames_are_as_good_as_tensors(wrap):
    x, y = (part.numpy() for part in parts())
    result = fitted((wrap(x), wrap(y)), (wrap(x), wrap(y)))
    assert torch.equal(result.predict(wrap(x)), result.predict(torch.as_tensor(x)))


def test_model_and_factory_are_told_apart(tmp_path):
    good = parts()
    for model, words in (
        (nn.Linear, r"model is the class Linear; give a module made of it: Linear\(\.\.\.\)"),
        (lambda: nn.Linear(4, 2), "model is a function; give the module that it makes: call it; a factory goes with"),
        (3, "model is a int; give an nn.Module"),
    ):
        with pytest.raises(mg.MetricgradError, match=words):
            mg.fit(model, good, good, metric="accuracy", loss="cross_entropy", progress=False)
    for model, words in (
        (nn.Linear(4, 2), r"model is a Linear; give a zero-argument factory .*model=lambda: Linear\(\.\.\.\)"),
        (None, "model is a NoneType; give a zero-argument factory"),
        (nn.Linear, r"model is Linear, which takes arguments; .*: lambda: Linear\(\.\.\.\)"),
        (lambda: 3, "model made a int; expected an nn.Module"),
    ):
        with pytest.raises(mg.MetricgradError, match=words):
            compared(good, good, model=model, out=tmp_path)
    for loss, words in (
        (nn.functional.cross_entropy, "loss is cross_entropy, which takes arguments; give a factory that takes none"),
        (mg.UniLoss, "loss is UniLoss, which takes arguments"),
        (lambda: 3, "loss made a int; expected an nn.Module"),
        (nn.CrossEntropyLoss(reduction="none"), r"loss returned a tensor of shape \(64,\).*reduction='mean'"),
    ):
        with pytest.raises(mg.MetricgradError, match=words):
            fitted(good, loss=loss)


def test_where_not_finite_by_hand():
    x = torch.zeros(9, 2, 3)
    assert where_not_finite(x) is None
    assert where_not_finite(torch.zeros(0, 3)) is None
    assert where_not_finite(torch.zeros(3).long()) is None
    x[4, 1, 2] = float("inf")
    assert where_not_finite(x) == "NaN or infinity in 1 of 9 rows (row 4), in column 5"
    assert where_not_finite(x, nan_only=True) is None
    x[:] = NAN
    assert where_not_finite(x) == "NaN in 9 of 9 rows (rows 0, 1, 2, 3, 4 and 4 more), in every column"
    with pytest.raises(mg.MetricgradError, match="rows differ in length"):
        check_numbers("x", [[1, 2], [3]])
    with pytest.raises(mg.MetricgradError, match=r"torch\.stack\(x\)"):
        check_numbers("x", [torch.zeros(2, requires_grad=True), torch.zeros(2)])


def test_one_score_a_row_for_grades_says_what_the_scores_should_be():
    words = (
        r"got values from 0 to 4; make them 0 and 1, as \(targets > 0\), or pass \(N, C\) scores for classes and grades"
    )
    with pytest.raises(mg.MetricgradError, match=words):
        mg.UniLoss("quadratic_kappa")(torch.randn(10), torch.arange(10) % 5)
