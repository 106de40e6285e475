"""Train on the metric you are judged by: any metric in, a loss out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.version import __version__ as __version__

if TYPE_CHECKING:
    from metricgrad import aligners, decisions, forms, functional
    from metricgrad.comparison.mismatch import mismatch
    from metricgrad.comparison.report.study_file import load_table
    from metricgrad.comparison.study import compare
    from metricgrad.decisions.fit import fit_decision
    from metricgrad.loading import load_loss
    from metricgrad.loss import Loss
    from metricgrad.metrics.as_metric import as_metric
    from metricgrad.metrics.built_in import list_metrics
    from metricgrad.metrics.metric import Metric
    from metricgrad.model_loading import load_model
    from metricgrad.refactoring.infer import infer_refactoring
    from metricgrad.systems.adalfl import AdaLFL
    from metricgrad.systems.ala import ALA
    from metricgrad.systems.reloss import ReLoss
    from metricgrad.systems.uniloss import UniLoss
    from metricgrad.table_training import train_table
    from metricgrad.tables.task import task_of_table
    from metricgrad.tasks.task import Task
    from metricgrad.training.balanced import ClassBalanced, RankBatches, Stratified
    from metricgrad.training.fit import fit
    from metricgrad.training.microbatched import microbatched
    from metricgrad.training.population.fit_population import fit_population
    from metricgrad.training.recording import record_scores
    from metricgrad.training.result import FitResult

__all__ = [
    "ALA",
    "AdaLFL",
    "ClassBalanced",
    "FitResult",
    "Loss",
    "Metric",
    "MetricgradError",
    "RankBatches",
    "ReLoss",
    "Stratified",
    "Task",
    "UniLoss",
    "aligners",
    "as_metric",
    "compare",
    "decisions",
    "fit",
    "fit_decision",
    "fit_population",
    "forms",
    "functional",
    "infer_refactoring",
    "list_metrics",
    "load_loss",
    "load_model",
    "load_table",
    "microbatched",
    "mismatch",
    "record_scores",
    "task_of_table",
    "train_table",
]

_IMPORT_PATH = {
    "ALA": "metricgrad.systems.ala",
    "AdaLFL": "metricgrad.systems.adalfl",
    "ClassBalanced": "metricgrad.training.balanced",
    "FitResult": "metricgrad.training.result",
    "Loss": "metricgrad.loss",
    "Metric": "metricgrad.metrics.metric",
    "RankBatches": "metricgrad.training.balanced",
    "ReLoss": "metricgrad.systems.reloss",
    "Stratified": "metricgrad.training.balanced",
    "Task": "metricgrad.tasks.task",
    "UniLoss": "metricgrad.systems.uniloss",
    "as_metric": "metricgrad.metrics.as_metric",
    "compare": "metricgrad.comparison.study",
    "fit": "metricgrad.training.fit",
    "fit_decision": "metricgrad.decisions.fit",
    "fit_population": "metricgrad.training.population.fit_population",
    "infer_refactoring": "metricgrad.refactoring.infer",
    "list_metrics": "metricgrad.metrics.built_in",
    "load_loss": "metricgrad.loading",
    "load_model": "metricgrad.model_loading",
    "load_table": "metricgrad.comparison.report.study_file",
    "microbatched": "metricgrad.training.microbatched",
    "mismatch": "metricgrad.comparison.mismatch",
    "record_scores": "metricgrad.training.recording",
    "task_of_table": "metricgrad.tables.task",
    "train_table": "metricgrad.table_training",
}

_MODULES = {
    "aligners": "metricgrad.aligners",
    "decisions": "metricgrad.decisions",
    "forms": "metricgrad.forms",
    "functional": "metricgrad.functional",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _IMPORT_PATH:
        try:
            return getattr(importlib.import_module(_IMPORT_PATH[name]), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "metricgrad":
                raise
            raise MetricgradError(
                f"mg.{name} needs {error.name}, which is not installed: pip install 'metricgrad[train,compare]'"
            ) from error
    message = f"module 'metricgrad' has no attribute {name!r}"
    if not name.startswith("_"):
        message += f": {did_you_mean(name, __all__, {known.lower(): known for known in __all__})}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
