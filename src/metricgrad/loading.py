"""A loss made again from its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metricgrad import serialization
from metricgrad.loss import Loss
from metricgrad.losses.batches import checked_whole
from metricgrad.metrics.metric import Metric
from metricgrad.serialization import Headed


def load_loss(path: str | Path, metric: str | Metric | Callable[..., Any] | None = None) -> Loss:
    """Load a saved loss.

    Args:
        path: written by :meth:`Loss.save`.
        metric: must be passed again where it was a foreign callable that the loss still calls; ignored otherwise. A
            fitted ReLoss calls its metric no more, and works without it.

    Raises:
        MetricgradError: for a file that is none of ours, or a foreign metric that was not passed.
    """
    file = serialization.read(path, part="form", writer="Loss.save", metric=metric)
    with file.blamed():
        loss = _built(file.header, file)
        file.fill(loss, file.header.get("extra"))
    return loss


def _built(header: dict[str, Any], file: Headed) -> Loss:
    from metricgrad.grid import ALIGNERS, FORMS, part  # all forms, of which whoever loads none has imported one

    form = part(FORMS, header.get("form"), file, _built)
    aligner = part(ALIGNERS, header.get("aligner"), file, _built)
    said = {name: header[name] for name in ("class_dim", "ignore_index") if name in header}
    return Loss(form, aligner, seed=checked_whole("seed", header.get("seed")), **said)
