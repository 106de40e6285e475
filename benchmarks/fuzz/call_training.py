"""Calls of what trains or is trained with: steps with aligners, fits, comparisons, diagnoses, saving and loading."""

from __future__ import annotations

import copy
import csv
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.contract.registry import LOSSES
from torch import Tensor, nn

import metricgrad as mg
from fuzz import truths
from fuzz.call_losses import HUGE, SPECS, for_metric
from fuzz.inputs import Batch, Draws
from metricgrad.comparison import study
from metricgrad.comparison.diagnose import diagnose
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.heat_maps import HeatmapNetwork
from metricgrad.losses.networks.lists import ListNetwork
from metricgrad.losses.networks.peaks import PeakNetwork
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.losses.networks.values import RegressionNetwork
from metricgrad.systems.by_name import list_losses
from metricgrad.tasks.split import Splits

LABELLED = {"one score": 2, "classes": 3, "two classes": 1, "labels": 1}


def _rows(draws: Draws, *, trouble: float = 0.25, kinds: dict[str, float] | None = None) -> tuple[Tensor, Any, int]:
    """Inputs ``(N, 5)``, targets, and how many outputs a linear model of them has; mostly what can be trained on."""
    batch = draws.batch(kinds or LABELLED, trouble=trouble, context=False, sizes=(12, 24, 60))
    rows = batch.scores.shape[0] if isinstance(batch.scores, Tensor) and batch.scores.ndim else 4
    inputs = torch.randn(rows, 5, generator=draws.generator)
    if draws.chance(trouble * 0.2):
        inputs = inputs * draws.pick("inputs", [1e20, 0.0, float("nan"), 1e-30])
    outputs = batch.scores.shape[-1] if isinstance(batch.scores, Tensor) and batch.scores.ndim == 2 else 1
    return draws.handed(inputs), batch.targets, outputs


class _Squeezed(nn.Linear):
    """One score for each item, ``(N,)``."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).squeeze(-1)


def _linear(outputs: int) -> nn.Module:
    return (_Squeezed if outputs == 1 else nn.Linear)(5, outputs)


def _model(draws: Draws, outputs: int) -> nn.Module:
    kind = draws.pick("model", {"linear": 3, "mlp": 3, "normalised": 1})
    first: dict[str, list[nn.Module]] = {
        "linear": [], "mlp": [nn.Linear(5, 5), nn.Tanh()], "normalised": [nn.BatchNorm1d(5)],
    }  # fmt: skip
    model = nn.Sequential(*first[kind], _linear(outputs))
    torch.manual_seed(draws.settled)
    return model


def _optimizer(draws: Draws, model: nn.Module) -> torch.optim.Optimizer:
    made: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1), "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2), "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    }  # fmt: skip
    return made[draws.pick("optimizer", list(made))](model.parameters())


def _with_aligner(draws: Draws, outputs: int, *, looks: bool) -> mg.Loss:
    if looks:
        options = draws.some(
            {"every": [1, 2, 0], "clip": [1.0, -1.0], "lr": [1e-3, 0.0, -1.0, float("nan")], "residual": [True],
             "steps": [1, 2], "output": ["softplus", "none", "x"], "objective": ["task", mg.UniLoss("accuracy"), 3]},
            0.1,
        )  # fmt: skip
        fitting = {"one score": "binary", "labels": "multilabel"}.get(draws.said["kind"], "classification")
        kind = draws.pick("problem", {fitting: 9, "auto": 2, "ranking": 0.3, "regression": 0.5})
        return mg.AdaLFL(outputs if draws.chance(0.5) else None, kind=kind, **options)
    options = draws.some(
        {"every": [1, 2, 0, -1], "warm_up": [0, 1, -1], "learner": ["reinforce", "bandit", "q"],
         "step_size": [0.0, 1.0, -1.0],
         "aligner": ["policy", "random_walk", "static", "none"], "paper": [True], "discount": [0.0, 2.0]},
        0.1,
    )  # fmt: skip
    metric = draws.pick("metric", ["accuracy", "f1", "macro_f1", "average_precision", "auroc", "quadratic_kappa"])
    return mg.ALA(metric, num_outputs=draws.pick("outputs", {outputs: 5, None: 3, 0: 0.3, 7: 0.3}), **options)


def steps(draws: Draws, *, looks: bool) -> str:
    """Three optimiser steps of a loss with an aligner; the training is as without it where the loss does not move."""
    inputs, targets, outputs = _rows(draws)
    model = _model(draws, outputs)
    optimizer = _optimizer(draws, model)
    loss = _with_aligner(draws, outputs, looks=looks)
    valid = draws.pick("valid", {"the same": 5, "none": 2, "empty": 0.5, "a pair": 0.3})
    batches: Any = {"the same": [(inputs, targets)], "none": None, "empty": [], "a pair": (inputs, targets)}[valid]
    if draws.chance(0.3):
        for _ in range(2):
            value = loss.step(model, optimizer, (inputs, targets), None if batches is None else (inputs, targets))
            truths.require(value.isfinite() and not value.requires_grad, "the value of a step is not finite")
        return "value"
    handle = loss.attach(model, optimizer, valid=batches, total_steps=draws.pick("total", {None: 2, 3: 1, 0: 0.3}))
    for _ in range(3):
        optimizer.zero_grad()
        scores = model(inputs)
        value = loss(scores, targets)
        value.backward()
        optimizer.step()
        truths.require(value.isfinite() or not scores.isfinite().all(), "the loss of a step is not finite")
    handle.detach()
    for parameter in [*model.parameters(), *loss.parameters()]:
        truths.require(parameter.isfinite().all() or draws.said.get("inputs"), "a weight is not finite after steps")
    return "value"


def observe(draws: Draws) -> str:
    """``loss.observe`` by hand, of aligners with and without a use for it."""
    make, data = LOSSES[draws.pick("loss", list(LOSSES))]
    loss = make()
    batch = (
        draws.batch()
        if draws.chance(0.6)
        else Batch("its own", *data(draws.pick("rows", [0, 1, 16]), torch.float32), {})
    )
    progress = draws.pick("progress", [None, 0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), "half"])
    for _ in range(3):
        loss.observe(batch.scores, batch.targets, progress)
    for parameter in loss.parameters():
        truths.require(parameter.isfinite().all() or "nan" in str(parameter), "a knob is not finite after feedback")
    return "value"


def prepare(draws: Draws) -> str:
    """``loss.prepare`` of aligners that fit and of those that do not."""
    from metricgrad.aligners.fitting.rank_correlation import RankCorrelation

    if draws.chance(0.6):
        make, _ = LOSSES[draws.pick("loss", list(LOSSES))]
        loss = make()
        if hasattr(loss.aligner, "restarts"):
            loss = mg.Loss(loss.form, type(loss.aligner)(loss.aligner.metric, steps=3, restarts=1))
    else:
        metric = mg.as_metric(draws.pick("metric", SPECS))
        loss = mg.Loss(
            _form(draws), RankCorrelation(metric, steps=3, restarts=1, block=draws.pick("block", [None, 4, 16]))
        )
    batch = draws.batch()
    loss.prepare(batch.scores, batch.targets, groups=batch.context.get("groups"))
    return "value"


FORMS: dict[str, Callable[[], Any]] = {
    "sets": SetNetwork, "probabilities": ProbabilityNetwork, "values": RegressionNetwork, "lists": ListNetwork,
    "peaks": PeakNetwork, "maps": lambda: HeatmapNetwork(size=(5, 6)), "tokens": lambda: TokenNetwork(positions=3),
}  # fmt: skip


def _form(draws: Draws) -> NetworkForm:
    return FORMS[draws.pick("form", list(FORMS))]()


def reloss(draws: Draws) -> str:
    """``mg.ReLoss.fit``, then a call of what was fitted."""
    metric = mg.as_metric(draws.pick("metric", SPECS))
    batch = for_metric(draws, metric, stored=True)
    options: dict[str, Any] = {"steps": 3, "restarts": 2, "block": 8, "values": 8}
    options |= draws.some(
        {"block": [None, 2, 0, 10**6], "anchor": [0.0, 1.0, -1.0], "objective": ["value", "rank"], "paper": [True],
         "steps": [1, 0, -1], "restarts": [0, 2], "lr": [0.0, 1e30], "penalty": [0.0, -1.0], "seed": [3, -1, "x"]},
        0.06,
    )  # fmt: skip
    if draws.chance(0.3):
        form = draws.pick("own form", {**dict.fromkeys(FORMS, 1.0), "matrix": 0.5, "module": 0.5, "name": 0.5})
        others: dict[str, Any] = {"matrix": mg.UniLoss("f1").form, "module": nn.Sigmoid(), "name": "sets"}
        options["form"] = others[form] if form in others else FORMS[form]()
    if (
        draws.chance(0.7)
        and isinstance(batch.scores, Tensor)
        and isinstance(batch.targets, Tensor)
        and batch.scores.ndim
    ):
        batch.scores = torch.cat([batch.scores] * 4)
        batch.targets = torch.cat([batch.targets] * 4)
        batch.context = {}
    loss = mg.ReLoss.fit(metric, batch.scores, batch.targets, **batch.context, **options)
    loss.report()
    leaf = batch.scores.detach().requires_grad_()
    value = loss(leaf, batch.targets, **{name: part for name, part in batch.context.items() if name == "groups"})
    (slope,) = torch.autograd.grad(value, leaf, allow_unused=True)
    if not value.isfinite() and any(trait in batch.traits for trait in HUGE):
        return "overflow"
    truths.finite(value, slope, leaf)
    return "value"


def offline(draws: Draws) -> str:
    """``loss.offline_start``: two rounds."""
    inputs, targets, outputs = _rows(draws)
    loss = _with_aligner(draws, outputs, looks=draws.chance(0.9))
    kinds = {"a factory": lambda: _linear(outputs), "no module": lambda: "model"}
    options = draws.some({"inner": [2, 0], "keep": [1, 0], "lr": [-1.0, 0.0], "valid": [[(inputs, targets)], []]}, 0.15)
    values = loss.offline_start(
        kinds[draws.pick("make", {"a factory": 8, "no module": 1})], lambda p: torch.optim.SGD(p, lr=0.1),
        [(inputs, targets)], steps=draws.pick("steps", {2: 5, 0: 1, -1: 0.5}), **options,
    )  # fmt: skip
    truths.require(all(value == value for value in values), "an objective is NaN")
    return "value"


def round_trip(draws: Draws) -> str:
    """Saved and loaded, copied and loaded from its state, a loss says the same."""
    make, data = LOSSES[draws.pick("loss", list(LOSSES))]
    loss = make()
    scores, targets = data(12, draws.pick("dtype", {torch.float32: 3, torch.float64: 1}))
    loss(scores.clone().requires_grad_(), targets).backward()
    way = draws.pick("way", ["file", "state", "copy"])
    with tempfile.TemporaryDirectory() as folder:
        if way == "file":
            path = Path(folder) / draws.pick("name", ["loss.safetensors", "a b", "missing/loss.safetensors", ""])
            loss.save(path)
            again = mg.load_loss(path)
        elif way == "state":
            again = make()
            again.load_state_dict(copy.deepcopy(loss.state_dict()))
        else:
            again = copy.deepcopy(loss)
    value, slope = truths.same_again(copy.deepcopy(loss), scores, targets, {}, "the same scores")
    found, turned = truths.same_again(again, scores, targets, {}, "the same scores after loading")
    truths.require(torch.equal(value, found) and torch.equal(slope, turned), f"another value after the way by {way}")
    return "value"


def mismatch(draws: Draws) -> str:
    """``mg.mismatch`` of losses of ours, of torch's and of a user's own."""
    metric = mg.as_metric(draws.pick("metric", SPECS))
    batch = for_metric(draws, metric, stored=True)
    losses: dict[str, Callable[[], Any]] = {
        "cross-entropy": lambda: nn.functional.cross_entropy, "bce": nn.BCEWithLogitsLoss, "mse": nn.MSELoss,
        "the metric": lambda: mg.UniLoss(metric), "a constant": lambda: lambda s, t: torch.zeros(()),
        "NaN": lambda: lambda s, t: torch.tensor(float("nan")), "not reduced": lambda: lambda s, t: s,
        "text": lambda: "f1",
    }  # fmt: skip
    options: dict[str, Any] = {"block": 8, "blocks": 6}
    options |= draws.some(
        {"block": [2, 1, 10**6, 3.5], "blocks": [2, 0, -1], "seed": [3, -1], "per_class": [2, 0]}, 0.1
    )
    found = mg.mismatch(losses[draws.pick("loss", list(losses))](), metric, batch.scores, batch.targets,
                        **batch.context, **options)  # fmt: skip
    if found.value is None or found.value != found.value:
        return "undefined"
    truths.require(abs(found.value) <= 1 + 1e-9, "a rank correlation beyond 1")
    return "value"


def diagnosis(draws: Draws) -> str:
    """``diagnose`` of CSV files, sound and not."""
    batch = draws.batch({"one score": 2, "classes": 2, "values": 1}, context=False, trouble=0.2, sizes=(40, 64))
    scores, targets = _table(batch.scores), _table(batch.targets)
    columns = ["score"] if len(scores[0] if scores else [0]) == 1 else [f"score_{i}" for i in range(len(scores[0]))]
    head = ["target", *columns]
    lines = [[*t, *s] for t, s in zip(targets, scores, strict=False)] * draws.pick("times", [1, 4])
    trouble = draws.pick(
        "file", {"sound": 20, "no header": 1, "text": 1, "missing": 1, "short": 1, "bytes": 1, "empty": 1}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(([] if trouble == "no header" else [head]) + lines)
        raw = path.read_bytes()
        changed = {"text": raw + b"cat,dog\n", "short": raw + b"1\n", "bytes": b"\xff\xfe" + raw, "empty": b""}
        if trouble == "missing":
            path.unlink()
        elif trouble in changed:
            path.write_bytes(changed[trouble])
        losses = draws.pick("losses", {(): 3, ("cross_entropy",): 2, ("mse",): 1, ("no such",): 0.5, ("uniloss",): 1})
        found = diagnose(
            path, draws.pick("metric", [*SPECS, "no such"]), losses, out=None,
            block=draws.pick("block", {8: 6, 2: 1, 0: 1}),
            blocks=6, probabilities=draws.chance(0.2),
        )  # fmt: skip
    found.to_dict()
    return "value"


def _table(part: Any) -> list[list[Any]]:
    if not isinstance(part, Tensor) or not part.ndim or part.is_sparse or part.is_meta:
        return [[part]]
    return part.reshape(len(part), math.prod(part.shape[1:])).tolist()


def recording(draws: Draws) -> str:
    """``mg.record_scores`` around steps of a loop of one's own."""
    inputs, targets, outputs = _rows(draws)
    model = _model(draws, outputs)
    optimizer = _optimizer(draws, model)
    batches: Any = {
        "a list": [(inputs, targets)], "empty": [], "None": None, "a generator": iter([(inputs, targets)]),
        "inputs": [inputs],
    }[draws.pick("batches", {"a list": 8, "empty": 1, "None": 0.5, "a generator": 0.5, "inputs": 0.5})]  # fmt: skip
    before = copy.deepcopy(model.state_dict())
    every = draws.pick("every", {None: 3, 1: 2, 2: 1, 0: 0.5, 1.5: 0.3, "x": 0.2})
    with mg.record_scores(model, optimizer, batches, every=every) as recorded:
        truths.require(_alike(before, model.state_dict()), "recording moved the model")
        for _ in range(2):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    truths.require(len(recorded.scores) == len(recorded.targets) == len(recorded.moments), "parts of unequal length")
    return "value"


def _alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def fit(draws: Draws) -> str:
    """``mg.fit`` for two epochs, and what its result says."""
    inputs, targets, outputs = _rows(draws)
    metric = draws.pick(
        "metric", {"accuracy": 4, "f1": 2, "macro_f1": 2, "auroc": 1, "mse": 1, "map_at_r": 0.5, "no such": 0.3}
    )
    loss = draws.pick("loss", [*list_losses(), "no such"])
    options = draws.some(
        {"lr": [0.1, 0.0, -1.0, 1e30, float("nan")], "epochs": [1, 0, -1, 2.5], "batch_size": [1, 4, 0, 10**6],
         "patience": [1, 0], "decision": ["none", "threshold", "best", None], "per_class": [2, 0], "seed": [1, -1],
         "weight_decay": [0.1, -1.0], "copy_best": [1], "children": [1, 0], "device": ["tpu"]},
        0.05,
    )  # fmt: skip
    data = {"pairs": (inputs, targets), "inputs": inputs, "None": None}[
        draws.pick("data", {"pairs": 12, "inputs": 1, "None": 1})
    ]
    result = mg.fit(_model(draws, outputs), data, (inputs, targets),
                    **{"metric": metric, "loss": loss, "epochs": 2, "progress": False, "device": "cpu",
                       **options})  # fmt: skip
    scores = result.predict_scores(inputs)
    truths.require(scores.isfinite().all(), "scores of a fitted model are not finite")
    truths.require(len(result.predict(inputs)) == len(inputs), "another number of labels than rows")
    chances = result.predict_proba(inputs)
    truths.require(((chances >= 0) & (chances <= 1)).all(), "probabilities beyond 0 and 1")
    return "value"


def population(draws: Draws) -> str:
    """``mg.fit_population`` of two children."""
    inputs, targets, outputs = _rows(draws, trouble=0.15)
    options = draws.some({"children": [1, 0, 2], "copy_best": [1, 0], "epochs": [0, 1], "batch_size": [4, 0]}, 0.15)
    loss = draws.pick("loss", {"ala": 5, "uniloss": 0.5, "cross_entropy": 0.5})
    if loss == "ala":
        loss = mg.ALA("accuracy", num_outputs=outputs, every=2)
    found = mg.fit_population(
        lambda: _linear(outputs), (inputs, targets), (inputs, targets),
        **{"metric": "accuracy", "loss": loss, "children": 2, "epochs": 2, "progress": False, "stacked": False,
           **options},
    )  # fmt: skip
    truths.require(len(found.results) == options.get("children", 2), "another number of results than children")
    return "value"


def compare(draws: Draws) -> str:
    """``mg.compare`` of two losses with one trial and two seeds."""
    inputs, targets, outputs = _rows(draws, trouble=0.15, kinds={"one score": 1, "classes": 1})

    def load(seed: int) -> Splits:
        return Splits((inputs, targets), (inputs, targets), (inputs, targets))

    options = draws.some({"trials": [0, 2], "seeds": [1, 0], "losses": [[], ["no such"], [nn.CrossEntropyLoss], "ala"],
                          "metric_timeout": [5.0, 0.0, -1.0]}, 0.1)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        task = mg.Task("fuzz", model=lambda: _linear(outputs), load=load,
                       metric=draws.pick("metric", ["accuracy", "f1", "no such", "auroc"]), epochs=1)  # fmt: skip
        losses = ["cross_entropy", draws.pick("loss", ["uniloss", "focal", "ala", "adalfl", "mse"])]
        with patch.object(study, "plot", lambda table, path: path):
            table = mg.compare(task, **{"losses": losses, "trials": 1, "seeds": 2, "out": folder, "controls": False,
                                        "progress": False, **options})  # fmt: skip
    table.to_dict()
    return "value"
