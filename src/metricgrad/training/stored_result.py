"""The files of a finished run: safetensors for the weights, JSON for the rest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

from torch import nn

from metricgrad.decisions.kinds import restored, stored
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.training.outputs import Output
from metricgrad.training.result import FitResult
from metricgrad.training.run_folder.files import make_folder
from metricgrad.training.run_folder.fingerprints import describe_weights
from metricgrad.training.weights import load_weights, save_weights
from metricgrad.writing import write_text

SCHEMA = 2


def write_finished(result: FitResult, folder: Path, config: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and, last, ``result.json``: its presence says that the run is finished."""
    make_folder(folder)
    save_weights(result.model, folder / "model.safetensors")
    record = {
        "schema": SCHEMA,
        "metric": result.metric.spec or result.metric.name,
        "decision": stored(result.decision),
        "output": result.output,
        "delivered": describe_weights(result.model),
        "history": [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in result.history],
        "config": config,
    }
    write_text(folder / "result.json", json.dumps(record, indent=1, allow_nan=False))


def load_finished(folder: Path, record: dict[str, Any], model: nn.Module, metric: Metric) -> FitResult:
    """The result of a finished run, its weights loaded into ``model``."""
    try:
        load_weights(model, folder / "model.safetensors")
    except MetricgradError as error:
        raise MetricgradError(
            f"out={str(folder)!r}: the weights in model.safetensors do not load: {error}; pass resume=False"
        ) from error
    output = record.get("output") if record.get("output") in get_args(Output) else None  # not said by earlier versions
    history = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["history"]]
    return FitResult(
        model.eval(), metric, restored(record["decision"]), history, folder, output=output, card=record["config"]
    )
