"""scikit-learn estimators that train on the metric they are judged by, decision included.

They take what any estimator takes: put them into pipelines, cross-validation and grid searches. Text and categories go
through a ``ColumnTransformer`` first, or through :func:`metricgrad.task_of_table`, which reads whole tables.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.integrations.metric_estimator import LossParameter, MetricEstimator, MetricParameter
from metricgrad.tables.schema import Target
from metricgrad.training.delivery import Asked


class MetricClassifier(ClassifierMixin, MetricEstimator):
    """Classes, by a network that is trained on the metric and delivered under the decision that the metric asks for.

    A quarter of the rows is held back: it chooses the epoch and the decision (a threshold, offsets of classes), so that
    :meth:`predict` is what the metric pays for, and :meth:`decision_function` has it in it. :meth:`predict_proba` is
    of the network alone, as a calibration or a search for another threshold wants it; its largest entry need not be
    the class that is predicted.

    Args:
        metric: the name of a metric of classes, such as ``"macro_f1"``, or a function without arguments that makes one:
            ``lambda: mg.as_metric(sklearn.metrics.f1_score, average="weighted")``.
        loss: the name of a loss (``metricgrad losses``), or a function without arguments that makes one.
        epochs: passes over the rows; None: by their number, 40 up to 2,000 rows and fewer beyond.
        batch_size: rows in a step; None: by their number.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        validation_fraction: share of the rows that is held back.
        decision: ``"auto"``, ``"none"`` or a kind, as in :func:`metricgrad.fit`.
        device: as in :func:`metricgrad.fit`.
        random_state: of the rows held back and everything else random.

    Attributes:
        classes_: in the order of the columns of :meth:`predict_proba`; of two, the last is the one looked for.
        decision_: what was fitted; ``decision_.report()`` says why.
        network_: from the tensor of ``preprocessing_`` to raw scores, in float64.
        history_: a row for each epoch.

    Missing numbers (NaN) are allowed. Cost: that of the training, a second for a thousand rows; use
    :func:`metricgrad.fit` for networks of your own.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(300, weights=[0.9], random_state=0)
        >>> model = MetricClassifier("f1", "cross_entropy", epochs=5, random_state=0).fit(X, y)
        >>> model.predict(X[:3]).shape, model.predict_proba(X[:3]).shape
        ((3,), (3, 2))
    """

    def __init__(
        self,
        metric: MetricParameter = "accuracy",
        loss: LossParameter = "uniloss",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-4,
        validation_fraction: float = 0.25,
        decision: Asked = "auto",
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        super().__init__(
            metric, loss, epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay,
            validation_fraction=validation_fraction, device=device, random_state=random_state,
        )  # fmt: skip
        self.decision = decision

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Args:
            X: ``(N, F)`` numbers, NaN where one is missing; an array or a data frame.
            y: ``(N,)`` classes of any type, two or more.
            sample_weight: ``(N,)`` numbers from 0 up, for a metric that takes weights: a row of weight 2 counts as two,
                in training, in the epoch and in the decision that are chosen; one of weight 0 is left out.

        Raises:
            MetricgradError: a ValueError; for one class, a metric of values, and whatever :func:`metricgrad.fit`
                refuses.
        """
        return self._fit(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """``(N,)`` classes, the decision applied."""
        decided = self.decision_function(X)
        return self.classes_[(decided > 0).astype(int) if decided.ndim == 1 else decided.argmax(1)]

    def decision_function(self, X: Any) -> np.ndarray:
        """``(N,)``, above 0 for the last of two classes; ``(N, C)``, largest for the class that is predicted."""
        scores = self._scores(X)
        return self.decision_(scores).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """``(N, C)`` probabilities by the network alone, without the decision."""
        scores = self._scores(X)
        if scores.ndim == 2:
            return scores.softmax(1).numpy()
        return torch.stack([(-scores).sigmoid(), scores.sigmoid()], 1).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The metric under the decision, its negative where lower is better.

        Args:
            X: rows.
            y: their true classes, none but those of the training.
            sample_weight: ``(N,)``, where the metric takes weights.
        """
        check_is_fitted(self)
        y = np.asarray(y)
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (wrong := self.classes_[codes] != y).any():
            known = ", ".join(map(str, self.classes_[:8]))
            raise MetricgradError(f"y has the class {str(y[wrong][0])!r:.60}, which was not among {known}")
        return self._value(X, torch.from_numpy(codes), sample_weight)

    def _targets(self, y: np.ndarray) -> tuple[Target, Tensor]:
        check_classification_targets(y)
        self.classes_, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        if len(self.classes_) < 2:
            raise MetricgradError(
                f"y has one class, {str(self.classes_[0])!r:.60}, in all rows that count; give rows of two or more"
            )
        kind = "binary" if len(self.classes_) == 2 else "multiclass"
        return Target("y", kind, tuple(map(str, self.classes_)), counts=tuple(counts.tolist())), torch.from_numpy(codes)


class MetricRegressor(RegressorMixin, MetricEstimator):
    """Values, by a network that is trained on the metric.

    A quarter of the rows is held back and chooses the epoch.

    Args:
        metric: the name of a metric of values, such as ``"r2"``, ``"mae"`` or ``"spearman"``, or a function without
            arguments that makes one. It is told in the unit of ``y``.
        loss: the name of a loss (``metricgrad losses``), or a function without arguments that makes one.
        epochs: see :class:`MetricClassifier`, as for all below.
        batch_size: rows in a step.
        lr: learning rate.
        weight_decay: of AdamW.
        validation_fraction: share of the rows that is held back.
        device: where it is trained.
        random_state: of everything random.

    Attributes:
        network_: from the tensor of ``preprocessing_`` to deviations from the mean, in float64.
        history_: a row for each epoch.

    Example:
        >>> from sklearn.datasets import make_regression
        >>> X, y = make_regression(300, 4, random_state=0)
        >>> MetricRegressor("r2", "mse", lr=0.01, epochs=20, random_state=0).fit(X, y).score(X, y) > 0.8
        True
    """

    def __init__(
        self,
        metric: MetricParameter = "r2",
        loss: LossParameter = "uniloss",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float = 2e-3,
        weight_decay: float = 1e-4,
        validation_fraction: float = 0.25,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        super().__init__(
            metric, loss, epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay,
            validation_fraction=validation_fraction, device=device, random_state=random_state,
        )  # fmt: skip

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Args:
            X: ``(N, F)`` numbers, NaN where one is missing; an array or a data frame.
            y: ``(N,)`` finite numbers.
            sample_weight: see :meth:`MetricClassifier.fit`.

        Raises:
            MetricgradError: a ValueError; for a target that never varies, a metric of classes, and whatever
                :func:`metricgrad.fit` refuses.
        """
        return self._fit(X, y, sample_weight, y_numeric=True)

    def predict(self, X: Any) -> np.ndarray:
        """``(N,)`` values."""
        scores = self._scores(X)
        return scores.numpy() * self.target_.scale + self.target_.centre

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The metric, its negative where lower is better; see :meth:`MetricClassifier.score`."""
        check_is_fitted(self)
        values = (np.asarray(y, np.float64) - self.target_.centre) / self.target_.scale
        return self._value(X, torch.from_numpy(values), sample_weight)

    def _targets(self, y: np.ndarray) -> tuple[Target, Tensor]:
        centre, spread = float(np.mean(y, dtype=np.float64)), float(np.std(y, dtype=np.float64))
        target = Target("y", "regression", centre=centre, scale=spread or 1.0)
        return target, torch.from_numpy((y - target.centre) / target.scale).to(torch.float32)
