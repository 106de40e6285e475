"""The folder of a population: a checkpoint of all children after each epoch, their values, and the best child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from metricgrad.errors import MetricgradError
from metricgrad.training import files
from metricgrad.training.population.run import PopulationRun
from metricgrad.training.result import FitResult
from metricgrad.writing import write_text


class PopulationFolder:
    """What a population writes, and finds again.

    Args:
        folder: of this population and nothing else.
        config: what it was asked for, JSON-able; an earlier population of another configuration is refused.
        resume: False clears the folder.

    Attributes:
        saved: the state of the last whole epoch, or None.

    Raises:
        MetricgradError: for a folder with something else in it.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resume: bool) -> None:
        self.folder, self.config = folder, config
        files.make_folder(folder)
        if not resume:
            files.clear(folder)
        finished = files.read_result(folder)
        if finished is not None:
            files.forget_own_weights(finished, config)
            files.check_same(folder, finished["config"], config)
        found = files.read_checkpoint(folder, files.PopulationState)
        if found is None and finished is not None:
            raise MetricgradError(
                f"out={str(folder)!r} has the result of a population and no last.ckpt, which holds its other children; "
                "put it back, choose another out, or pass resume=False to train anew"
            )
        if found is not None:
            files.check_same(folder, found["config"], config)
        self.saved: dict[str, Any] | None = found and found["population"]
        self._finished = finished is not None
        self._events = TensorBoardLogger(folder, name="", version="")

    def write(self, run: PopulationRun) -> None:
        """After each epoch: ``last.ckpt``, ``metrics.csv`` and TensorBoard's events."""
        files.write_checkpoint(self.folder, {"config": self.config, "population": run.state()})
        rows = [
            f"{row['epoch']},{child},{row['train_loss']},{row['valid']}"
            for epoch in zip(*(kept.history for kept in run.kept), strict=True)
            for child, row in enumerate(epoch)
        ]
        write_text(self.folder / "metrics.csv", "\n".join(["epoch,child,train_loss,valid", *rows, ""]))
        last = {child: kept.history[-1] for child, kept in enumerate(run.kept)}
        for name in ("train_loss", "valid"):
            self._events.log_metrics({f"{name}/{child}": row[name] for child, row in last.items()}, run.epoch - 1)
        self._events.save()

    def finish(self, best: FitResult) -> None:
        """``model.safetensors`` and ``result.json`` of the best child, where they are not there yet."""
        best.path = self.folder
        if not self._finished:
            best.save(self.folder, self.config)
            self._events.finalize("success")
