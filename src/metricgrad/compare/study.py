"""The main job: tune every loss with the same budget, train with fresh seeds, score the test part once."""

from __future__ import annotations

import time
from typing import Any

import optuna
import torch

from metricgrad.metric import as_metric
from metricgrad.systems import UniLoss
from metricgrad.tasks.digits import digits
from metricgrad.tasks.task import Task
from metricgrad.training.fit import fit


def make_loss(name: str, metric: str, softness: float) -> torch.nn.Module:
    """A loss by name."""
    return torch.nn.CrossEntropyLoss() if name == "cross_entropy" else UniLoss(metric, softness=softness)


def compare(task: Task = digits, *, metric: str, losses: list[str], trials: int, seeds: int) -> list[dict[str, Any]]:
    """One record for each loss and seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    true = as_metric(metric)
    records = []
    for name in losses:

        def run(params: dict[str, float], seed: int, name: str = name) -> tuple[float, float]:
            train, valid, test = task.load(seed)
            torch.manual_seed(seed)
            loss = make_loss(name, metric, params.get("softness", 1.0))
            result = fit(
                task.model(), train, valid, metric=true, loss=loss, lr=params["lr"],
                weight_decay=params["weight_decay"], epochs=task.epochs, batch_size=task.batch_size,
                seed=seed, progress=False,
            )  # fmt: skip
            with torch.no_grad():
                return max(h["valid"] for h in result.history), float(true(result.model(test[0]), test[1]))

        def objective(trial: optuna.Trial, name: str = name, run: Any = run) -> float:
            params = {
                "lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True),
                "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
            }
            if name == "uniloss":
                params["softness"] = trial.suggest_float("softness", 0.1, 3.0, log=True)
            return run(params, seed=10_000)[0]

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=trials)
        for seed in range(seeds):
            start = time.perf_counter()
            valid, test = run(study.best_params, seed)
            records.append(
                {"loss": name, "role": "candidate", "seed": seed, "valid": valid, "test": test,
                 "seconds": time.perf_counter() - start, "params": study.best_params}
            )  # fmt: skip
    return records
