"""A model made again from its folder: that of a table, or a network of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import nn

from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.tables.model import TableModel
from metricgrad.tables.model_folder import table_model_of
from metricgrad.training.model_folder import open_model_folder
from metricgrad.training.network_folder import KIND, network_of
from metricgrad.training.trained_model import TrainedModel


def load_model(
    folder: str | os.PathLike[str],
    *,
    model: nn.Module | Callable[[], nn.Module] | None = None,
    metric: str | Metric | Callable[..., Any] | None = None,
) -> TrainedModel | TableModel:
    """The model of a folder, ready to answer: ``predict``, ``predict_proba``, ``scores``, ``evaluate``.

    Nothing is unpickled, imported or run for it: a folder is safetensors, JSON and, for trees, LightGBM's text. What is
    code is passed by whoever loads it.

    Args:
        folder: of ``metricgrad train`` or :func:`metricgrad.train_table`, which is a table's, or of
            :meth:`metricgrad.FitResult.save`, which holds a network of one's own.
        model: of a network of one's own: a zero-argument factory of the architecture that was saved, or the network
            itself, which is then filled in place.
        metric: the one it was chosen by, where that is not built in; only ``evaluate`` needs it.

    Returns:
        A :class:`metricgrad.tables.model.TableModel`, which takes data frames, or a
        :class:`metricgrad.training.trained_model.TrainedModel`, which takes what the network does. Its ``card`` says
        how it came about.

    Raises:
        MetricgradError: for a folder without a model, files that are torn or were changed, a network of another
            architecture, and one that is missing or not asked for.

    Example:
        >>> import tempfile, torch, metricgrad as mg
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> parts = (x[:100], x[:100, :3].argmax(1)), (x[100:], x[100:, :3].argmax(1))
        >>> result = mg.fit(torch.nn.Linear(4, 3), *parts, metric="accuracy", loss="cross_entropy", epochs=1)
        >>> folder = result.save(tempfile.mkdtemp() + "/model")
        >>> again = mg.load_model(folder, model=lambda: torch.nn.Linear(4, 3))
        >>> bool((again.predict(x) == result.predict(x)).all())
        True
    """
    opened = open_model_folder(folder, metric=metric)
    if opened.kind == KIND:
        return network_of(opened, model)
    if model is not None:
        raise MetricgradError(f"{str(folder)!r} holds a table's model, which is made of its own files; leave model out")
    return table_model_of(opened)
