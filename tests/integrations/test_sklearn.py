"""The estimators: scikit-learn's own checks, and the places that people put estimators into."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import metricgrad as mg
from fuzz.estimators import EXPECTED_TO_FAIL
from metricgrad.integrations.sklearn import MetricClassifier, MetricRegressor
from tests.tables.frames import people

QUICK = {"epochs": 8, "lr": 0.02, "random_state": 0}


@parametrize_with_checks(
    [MetricClassifier(**QUICK), MetricRegressor(**QUICK)], expected_failed_checks=lambda _: EXPECTED_TO_FAIL
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def rare(n=400):
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 5))
    return X, np.where(X[:, 0] + 0.7 * random.normal(size=n) > 1.4, "sick", "healthy")


def test_what_is_predicted_is_what_the_metric_pays_for():
    X, y = rare()
    model = MetricClassifier("f1", decision="threshold", **QUICK).fit(X, y)
    assert list(model.classes_) == ["healthy", "sick"]
    assert model.decision_.kind == "threshold"
    assert ((model.decision_function(X) > 0) == (model.predict(X) == "sick")).all()
    raw = model.predict_proba(X)[:, 1]
    assert ((raw > 0.5) != (model.predict(X) == "sick")).any()
    found = sklearn.metrics.f1_score(y, model.predict(X), pos_label="sick")
    assert model.score(X, y) == pytest.approx(found)
    weight = np.random.default_rng(1).random(len(y))
    weighted = sklearn.metrics.f1_score(y, model.predict(X), pos_label="sick", sample_weight=weight)
    assert model.score(X, y, weight) == pytest.approx(weighted, abs=1e-6)


def test_values_are_in_their_own_unit_and_errors_are_turned_round():
    X, y = load_diabetes(return_X_y=True)
    model = MetricRegressor("mae", "mae", **QUICK | {"epochs": 20}).fit(X, y)
    error = np.abs(model.predict(X) - y).mean()
    assert error < 55
    assert model.score(X, y) == pytest.approx(-error)


def test_factories_are_kept_as_they_were_passed():
    def metric():
        return mg.as_metric(sklearn.metrics.f1_score, average="weighted")

    def loss():
        return torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    X, y = load_iris(return_X_y=True)
    model = clone(MetricClassifier(metric, loss, **QUICK))
    assert model.metric is metric
    assert model.loss is loss
    model.fit(X, y)
    assert model.score(X, y) == pytest.approx(sklearn.metrics.f1_score(y, model.predict(X), average="weighted"))


def test_the_same_seed_gives_the_same_model_and_a_pickle_of_it():
    X, y = load_iris(return_X_y=True)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (MetricClassifier("macro_f1", **QUICK).fit(X, y) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.predict_proba(X) == second.predict_proba(X)).all()
    again = pickle.loads(pickle.dumps(first))
    assert (again.predict_proba(X) == first.predict_proba(X)).all()
    assert (MetricClassifier("macro_f1", **QUICK | {"random_state": 1}).fit(X, y).predict_proba(X) != again).any()


def test_missing_numbers_are_taken():
    X, y = load_breast_cancer(return_X_y=True)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    model = MetricClassifier("balanced_accuracy", "cross_entropy", **QUICK).fit(X, y)
    assert model.score(X, y) > 0.9
    assert np.isfinite(model.predict_proba(np.full_like(X[:2], np.nan))).all()


def test_pipelines_take_data_frames_and_give_them_on():
    frame = people()
    y, X = frame.pop("left"), frame[["age", "income", "city"]]
    columns = ColumnTransformer(
        [("numbers", SimpleImputer(), ["age", "income"]), ("city", OneHotEncoder(sparse_output=False), ["city"])]
    )
    pipeline = make_pipeline(columns, StandardScaler(), MetricClassifier("f1", "cross_entropy", **QUICK))
    pipeline.set_output(transform="pandas").fit(X, y)
    assert list(pipeline[-1].feature_names_in_[:2]) == ["numbers__age", "numbers__income"]
    assert pipeline.score(X, y) > 0.8
    assert isinstance(pipeline[:-1].transform(X), pd.DataFrame)
    with pytest.raises(ValueError, match="could not convert string"):
        MetricClassifier(**QUICK).fit(X, y)


def test_cross_validation_and_grid_search():
    X, y = load_iris(return_X_y=True)
    scores = cross_val_score(MetricClassifier("macro_f1", "cross_entropy", **QUICK), X, y, cv=2)
    assert (scores > 0.8).all()
    search = GridSearchCV(MetricClassifier("macro_f1", **QUICK), {"lr": [1e-6, 0.02]}, cv=2).fit(X, y)
    assert search.best_params_["lr"] == 0.02
    assert search.best_score_ > 0.8


def with_lies():
    """Of 400 rows a third say the opposite, and weigh nothing."""
    X, y = rare()
    lies = np.arange(len(y)) % 3 == 0
    told = np.where(lies, np.where(y == "sick", "healthy", "sick"), y)
    return X, told, np.where(lies, 0, 2.5), ~lies


def test_rows_count_as_much_as_they_weigh():
    X, y, weight, true = with_lies()
    weighed = MetricClassifier("f1", **QUICK).fit(X, y, sample_weight=weight)
    left_out = MetricClassifier("f1", **QUICK).fit(X[true], y[true])
    assert (weighed.decision_function(X) == left_out.decision_function(X)).all()
    values = X[:, 0] * np.where(true, 3, -3) + 100
    model = MetricRegressor(**QUICK | {"epochs": 20}).fit(X, values, weight)
    assert model.score(X, values, weight) > 0.8
    assert model.score(X, values) < 0.5


def test_weights_are_routed():
    X, y, weight, _ = with_lies()
    model = MetricClassifier("accuracy", "cross_entropy", **QUICK | {"epochs": 2})
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), model)
        grid = {"metricclassifier__lr": [1e-6, 0.1]}
        search = GridSearchCV(pipeline, grid, cv=2).fit(X, y, sample_weight=weight)
        scores = cross_val_score(search.best_estimator_, X, y, params={"sample_weight": weight}, cv=2)
        assert scores.mean() == search.best_score_ > 0.8
        unweighted = cross_val_score(clone(model).set_score_request(sample_weight=False), X, y, cv=2)
        assert unweighted.mean() < 0.7


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.ones(3), r"sample_weight has shape \(3,\) where the batch has \(400,\)"),
        (np.zeros(400), "sample_weight is zero everywhere"),
        (-np.ones(400), "weights are finite numbers from 0 up"),
        (np.full(400, "1 kg"), "weights hold text"),
        (np.where(rare()[1] == "sick", 1, 0), "y has one class, 'sick', in all rows that count"),
    ],
)
def test_what_is_no_weight_is_one_sentence(weight, words):
    with pytest.raises(mg.MetricgradError, match=words):
        MetricClassifier(**QUICK).fit(*rare(), weight)


def test_a_metric_without_weights_is_told():
    def metric():
        return mg.as_metric(lambda scores, targets: 0.0, higher_is_better=True, reads="labels")

    with pytest.raises(mg.MetricgradError, match="takes no sample_weight, so fit's sample_weight cannot count"):
        MetricClassifier(metric, **QUICK).fit(*rare(), np.ones(400))


def test_another_threshold_is_tuned_over_it():
    X, y = rare()
    train, test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    model = MetricClassifier("f1", "cross_entropy", decision="none", **QUICK)
    scorer = sklearn.metrics.make_scorer(sklearn.metrics.f1_score, pos_label="sick")
    tuned = TunedThresholdClassifierCV(model, scoring=scorer, cv=2).fit(train, y_train)
    assert scorer(tuned, test, y_test) > 0.4
    assert 0 < tuned.best_threshold_ < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": mg.as_metric("f1")}, "metric is a Metric; give a name, or a function"),
        ({"metric": sklearn.metrics.f1_score}, "function without arguments"),
        ({"loss": torch.nn.CrossEntropyLoss()}, "loss is a CrossEntropyLoss; give a name, or"),
        ({"loss": "unilos"}, "did you mean"),
        ({"metric": "r3"}, "unknown metric"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"epochs": -1}, "epochs is -1"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, words):
    X, y = rare(60)
    with pytest.raises(mg.MetricgradError, match=words):
        MetricClassifier(**QUICK | options).fit(X, y)


def test_a_class_that_training_never_met_is_told():
    X, y = rare(100)
    model = MetricClassifier("accuracy", "cross_entropy", **QUICK).fit(X, y)
    with pytest.raises(mg.MetricgradError, match="y has the class 'well', which was not among"):
        model.score(X[:2], ["well", "sick"])
    with pytest.raises(mg.MetricgradError, match="n_samples=2 rows leave none"):
        model.fit(X[:2], ["well", "sick"])
