"""What scikit-learn's estimators of ours share: numbers in, a network on them, chosen by rows that are held back."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from metricgrad.aligners.isolation import kept_all_randomness
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.tables.columns import Columns
from metricgrad.tables.network import TableNetwork
from metricgrad.tables.preprocessing import Preprocessing
from metricgrad.tables.row_weights import check_weight
from metricgrad.tables.schema import Column, Schema, Target
from metricgrad.tables.task import sizes_of
from metricgrad.tables.units import in_units_of
from metricgrad.training.batches import context_of
from metricgrad.training.delivery import Asked
from metricgrad.training.fit import fit
from metricgrad.training.options import takes_nothing

MetricParameter = str | Callable[[], "Metric | Callable[..., Any]"]
LossParameter = str | Callable[[], nn.Module]


class MetricEstimator(BaseEstimator):
    """What both share: numbers in, a network on them, the epoch and the decision chosen by rows that are held back."""

    decision: Asked = "none"

    def __init__(
        self,
        metric: MetricParameter,
        loss: LossParameter,
        *,
        epochs: int | None,
        batch_size: int | None,
        lr: float,
        weight_decay: float,
        validation_fraction: float,
        device: str,
        random_state: Any,
    ) -> None:
        self.metric = metric
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @abc.abstractmethod
    def _targets(self, y: np.ndarray) -> tuple[Target, Tensor]:
        """What is predicted, and the codes or the deviations of it."""

    def _fit(self, X: Any, y: Any, sample_weight: Any, **checks: Any) -> Self:
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", dtype=np.float64, **checks)
        metric, loss = self._metric(), _named_or_made("loss", self.loss)
        X, y, *weights = _counted(X, y, sample_weight, metric)
        self.target_, targets = self._targets(y)
        random = check_random_state(self.random_state)
        train, valid = _parts(targets, self.validation_fraction, of_classes=bool(self.target_.classes), random=random)
        seed = int(random.randint(2**31))
        gaps = np.isnan(X[train]).sum(0)
        schema = Schema(
            self.target_, tuple(Column(f"x{k}", "number", missing=int(gap)) for k, gap in enumerate(gaps)), len(train)
        )
        self.preprocessing_ = Preprocessing.fit(schema, _columns(X[train]))
        inputs, layout = self.preprocessing_.apply(_columns(X)), self.preprocessing_.layout
        outputs = len(self.target_.classes) if self.target_.type == "multiclass" else None
        with kept_all_randomness():
            torch.manual_seed(seed)
            network = TableNetwork(layout.numbers, len(layout.gaps), layout.levels, outputs)
        epochs, batch_size = sizes_of(len(X))
        whole = (inputs, targets, *weights)
        result = fit(
            network, tuple(part[train] for part in whole), tuple(part[valid] for part in whole),
            metric=in_units_of(self.target_, metric), loss=loss, lr=self.lr, weight_decay=self.weight_decay,
            epochs=self.epochs or epochs, batch_size=self.batch_size or batch_size, seed=seed, device=self.device,
            decision=self.decision, progress=False,
        )  # fmt: skip
        self.network_, self.decision_, self.history_ = result.model.double(), result.decision, result.history
        return self

    @torch.no_grad()
    def _scores(self, X: Any) -> Tensor:
        """Raw scores in float64, which do not depend on what other rows are in the batch."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        return torch.cat([self.network_(part) for part in self.preprocessing_.apply(_columns(X)).double().split(4096)])

    def _value(self, X: Any, targets: Tensor, sample_weight: Any) -> float:
        """The metric under the decision, turned so that more is better."""
        metric, decided = self._metric(), self.decision_(self._scores(X))
        weight = {} if sample_weight is None else {"sample_weight": torch.as_tensor(np.asarray(sample_weight, float))}
        value = float(in_units_of(self.target_, metric)(decided, targets, **weight))
        return value if metric.higher_is_better else -value

    def _metric(self) -> Metric:
        return as_metric(_named_or_made("metric", self.metric))


def _named_or_made(what: str, given: Any) -> Any:
    """A name, or what a function without arguments makes: an estimator keeps its parameters as they were passed."""
    if isinstance(given, str):
        return given
    if isinstance(given, Metric | nn.Module) or not callable(given) or not takes_nothing(given):
        kind = given.__name__ if isinstance(given, type) else type(given).__name__
        raise MetricgradError(
            f"{what} is a {kind}; give a name, or a function without arguments that makes one: {what}=lambda: ..."
        )
    return given()


def _counted(X: np.ndarray, y: np.ndarray, sample_weight: Any, metric: Metric) -> tuple[Any, ...]:
    """The rows that weigh anything, and what they weigh; all of them alone where nothing is said of it."""
    if sample_weight is None:
        return X, y
    check_weight(metric, "fit's sample_weight")
    weight = context_of((X, y, np.asarray(sample_weight)), "fit")["sample_weight"]
    there = (weight > 0).numpy()
    return X[there], y[there], weight[torch.from_numpy(there)]


def _columns(X: np.ndarray) -> Columns:
    return Columns(X, np.zeros((len(X), 0), np.int64))


def _parts(targets: Tensor, fraction: float, *, of_classes: bool, random: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to choose by, with about the same share of every class; each class is trained on."""
    if not 0 < fraction < 1:
        raise MetricgradError(f"validation_fraction is {fraction!r}; expected a number between 0 and 1")
    order = random.permutation(len(targets))
    strata = targets.numpy()[order] if of_classes else np.zeros(len(order), int)
    order = order[np.argsort(strata, kind="stable")]
    strata = np.sort(strata)
    first = np.r_[True, strata[1:] != strata[:-1]]
    free = order[~first]
    if not len(free):
        raise MetricgradError(
            f"n_samples={len(order)} rows leave none to choose the epoch by; give more rows than there are classes"
        )
    count = min(len(free), max(1, round(fraction * len(order))))
    valid = free[np.linspace(0, len(free) - 1, count).round().astype(int)]
    return np.setdiff1d(order, valid), np.sort(valid)
