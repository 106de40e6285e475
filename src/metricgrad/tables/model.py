"""What is delivered for a table: its preprocessing, a network or trees, and the decision; frames in, answers out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from metricgrad.decisions.base import Decision, Judged
from metricgrad.errors import MetricgradError
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.metric import Metric
from metricgrad.tables.class_labels import labels_of
from metricgrad.tables.columns import Columns, named, read_columns
from metricgrad.tables.preprocessing import Preprocessing
from metricgrad.tables.row_weights import check_weight, row_weights
from metricgrad.tables.schema import Schema
from metricgrad.tables.target import check_serves, encode_target
from metricgrad.tables.units import in_units_of
from metricgrad.tables.values import as_texts, column_of

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 4096


@dataclass(frozen=True)
class TableModel:
    """A model that answers rows of tables; loaded by :func:`metricgrad.tables.model_folder.load_table_model`.

    Columns are matched by name: their order, and whatever else is in the table, do not matter.

    Attributes:
        preprocessing: from columns to a tensor.
        model: from the tensor to raw scores, a :class:`~metricgrad.tables.network.TableNetwork` or
            :class:`~metricgrad.tables.trees.BoostedTrees`.
        decision: from raw scores to what is delivered.
        metric: what it was chosen by.
        card: what it is, on what it was trained, and how well it did.
    """

    preprocessing: Preprocessing
    model: nn.Module
    decision: Decision
    metric: Metric
    card: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        target = self.schema.target
        made = type(self.model).__name__
        return f"TableModel({made} of {target.name!r}, {target.type}, decision {self.decision.kind})"

    @property
    def schema(self) -> Schema:
        """What the table was understood as."""
        return self.preprocessing.schema

    def scores(self, frame: pd.DataFrame, *, first_row: int = 0) -> Tensor:
        """Raw scores, nothing applied: ``(N,)`` logits of the positive class, ``(N, C)``, or deviations from the mean.

        Args:
            frame: with the columns it was trained on.
            first_row: how many rows came before, where this is a chunk of a file.

        Raises:
            MetricgradError: for columns that are missing or of another type.
        """
        return self.scores_of(read_columns(self.schema, frame, first_row))

    def scores_of(self, columns: Columns) -> Tensor:
        """The same of columns that were read already."""
        return self._scored(self.preprocessing.apply(columns))

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """``(N,)`` answers: the class of each row by the decision; or its value, in the file's unit.

        Of a metric that reads the order of values alone, such as spearman, a value is a score to sort by. Classes are
        of the type that the target column had: whole numbers, numbers, booleans or text. Those of a CSV file are as
        :func:`pandas.read_csv` reads it: 0 and 1 are whole numbers, codes such as 007 stay text.
        """
        return self.answers(self.scores(frame))

    def predict_proba(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A column for each class, named as :meth:`predict` does: its probability by the model alone, without decision.

        Raises:
            MetricgradError: for a regression, which has none.
        """
        import pandas as pd

        if self.schema.target.type == "regression":
            raise MetricgradError(
                f"{self.schema.target.name!r} is a value, which has no probability; take predict(frame)"
            )
        found = self.probabilities(self.scores(frame))
        target = self.schema.target
        return pd.DataFrame(found, columns=labels_of(target.classes, target.labels).tolist(), index=frame.index)

    def answers(self, scores: Tensor) -> np.ndarray:
        """What :meth:`predict` says of raw scores."""
        target = self.schema.target
        if target.type == "regression":
            return scores.double().numpy() * target.scale + target.centre
        return labels_of(target.classes, target.labels)[self.decided(scores)]

    def decided(self, scores: Tensor) -> np.ndarray:
        """``(N,)`` numbers of classes, by the decision."""
        found = self.decision(scores)
        return (found.argmax(-1) if self.schema.target.type == "multiclass" else (found > 0).long()).numpy()

    def probabilities(self, scores: Tensor) -> np.ndarray:
        """``(N, C)`` in the order of the target's classes, that sum to 1."""
        if self.schema.target.type == "multiclass":
            return scores.double().softmax(-1).numpy()
        positive = scores.double().sigmoid().numpy()
        return np.stack([1 - positive, positive], 1)

    def evaluate(
        self, frames: pd.DataFrame | Iterable[pd.DataFrame], metric: str | Metric | None = None, *,
        weight: str | None = None,
    ) -> Judged:  # fmt: skip
        """The metric on rows whose target is known, with the decision and without; of values, in the file's unit.

        Args:
            frames: a table, or its chunks; rows without a target are passed over.
            metric: another one than it was chosen by, as :func:`metricgrad.as_metric` takes it.
            weight: the column of how much each row counts, where that is another than in training.

        Raises:
            MetricgradError: where there is no target column or no row with a target, the metric is not built in and
                was not passed again, or the weights are none.
        """
        import pandas as pd

        target, weight = self.schema.target, weight or self.schema.weight
        judged_by = self.metric if metric is None else as_metric(metric)
        check_serves(target, judged_by)
        if weight is not None:
            check_weight(judged_by, f"weight={weight!r}")
        scores, targets, weights, row = [], [], [], 0
        for frame in map(named, [frames] if isinstance(frames, pd.DataFrame) else frames):
            if target.name not in frame.columns:
                raise MetricgradError(f"the table has no column {target.name!r}, the target to be judged by; add it")
            known = ~as_texts(column_of(frame, target.name)).is_null().to_numpy(zero_copy_only=False)
            found = encode_target(target, column_of(frame, target.name), row, known=known)
            scores.append(self.scores(frame, first_row=row)[torch.from_numpy(known)])
            targets.append(torch.from_numpy(found[known]))
            if weight is not None:
                weights.append(torch.from_numpy(row_weights(frame, weight, known, row)))
            row += len(frame)
        joined = torch.cat(targets) if targets else torch.zeros(0)
        if not len(joined):
            raise MetricgradError(f"no row has a {target.name!r}; give rows whose target is known")
        joined = joined.to(torch.float32) if target.type == "regression" else joined
        context = {"sample_weight": torch.cat(weights)} if weights else {}
        return self.decision.judge(in_units_of(target, judged_by), torch.cat(scores), joined, **context)

    @torch.no_grad()
    def _scored(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.model(part) for part in inputs.split(_BATCH)]) if len(inputs) else self.model(inputs)
