"""Losses against a metric on stored predictions: correlations, intervals and a picture, with nothing trained."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metricgrad.aligners.fitting.agreement import Agreement, agreement, as_json, losses_of
from metricgrad.comparison.answers import read_answers
from metricgrad.comparison.mismatch import drawn_blocks
from metricgrad.comparison.row_numbers import Row, row_numbers
from metricgrad.errors import MetricgradError
from metricgrad.losses.registry import ProblemKind, standard_for
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.decoding import is_binary
from metricgrad.metrics.probabilities import FEWEST_ROWS, within_unit
from metricgrad.systems.by_name import find, make_loss
from metricgrad.writing import new_figure, write_figure


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found.

    Attributes:
        metric: its name.
        rows: of the file.
        block: rows of a block.
        agreements: loss name to its rank correlation with the metric.
        target_loss: ``(blocks,)`` the metric of each block, turned so that lower is better.
        losses: loss name to its ``(blocks,)`` values.
    """

    metric: str
    rows: int
    block: int
    agreements: dict[str, Agreement]
    target_loss: Tensor
    losses: dict[str, Tensor]

    @property
    def badness(self) -> Tensor:
        """The name of ``target_loss`` in version 0.1."""
        return self.target_loss

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; None for NaN."""
        found = {name: as_json(agreed) for name, agreed in self.agreements.items()}
        return {"metric": self.metric, "rows": self.rows, "block": self.block, "losses": found}


def diagnose(
    predictions: str | Path,
    metric: str,
    losses: Sequence[str] = (),
    *,
    target: str | None = None,
    probabilities: bool = False,
    block: int = 64,
    blocks: int = 200,
    seed: int = 0,
    out: str | Path | None = "diagnose.png",
) -> Diagnosis:
    """How well losses rank blocks of stored predictions as the metric ranks them.

    Use it to see whether there is a mismatch worth closing before anything is trained. All losses see the same blocks.

    Args:
        predictions: a CSV or Parquet file with the columns ``target`` and ``score`` (one logit or value a row), or
            ``target`` and ``score_0`` to ``score_{C-1}`` (logits of classes, or the numbers of an embedding where the
            metric reads embeddings). Other columns are not read: a ranking metric sees each block as one list.
        metric: a name that :func:`metricgrad.as_metric` knows.
        target: the file is what ``metricgrad predict`` wrote, probabilities or values, and this its column of true
            labels: ``predict --keep`` writes it beside. The decision is not in them.
        losses: names from the catalogue; by default the standard loss of the problem.
        probabilities: the file holds probabilities in place of logits. ``score`` is then turned into its logit
            log(p / (1 - p)), ``score_0`` to ``score_{C-1}`` into their logs, whose softmax they are. 0 and 1 count as
            1e-12 from them.
        block: rows of one block; at most half of all.
        blocks: how many are drawn.
        seed: of the draws and of the bootstrap.
        out: the scatter plot; None draws none.

    Raises:
        MetricgradError: for a file that cannot be read, a loss that does not serve the problem, or a metric that is
            undefined on nearly all blocks.

    Warns:
        UserWarning: where the metric is the same on all blocks, and correlations with it are NaN.
    """
    judged_by = as_metric(metric)
    embeddings = judged_by.layout.of_embeddings
    if target is None:
        scores, targets = read_predictions(Path(predictions), embeddings=embeddings)
    else:
        scores, targets = read_answers(Path(predictions), target)
        probabilities = not targets.is_floating_point()
    kind = "retrieval" if embeddings else _kind(scores, targets)
    if probabilities:
        scores = logits_of(scores, predictions, kind)
    elif judged_by.takes_logits and len(scores) >= FEWEST_ROWS and within_unit(scores):
        warnings.warn(
            f"all scores of {predictions} lie from 0 to 1, as probabilities do, and they are read as logits; where "
            "they are probabilities, pass --probabilities (in Python probabilities=True)",
            stacklevel=2,
        )
    names = list(losses) or [standard_for(kind)]
    for name in names:
        if kind not in (serves := find(name)[0].kinds):
            raise MetricgradError(f"loss {name!r} serves {' and '.join(sorted(serves))}, and {predictions} is {kind}")
    modules = {name: make_loss(name, judged_by, seed=seed).eval() for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "all scores lie from 0 to 1")  # said above, with what to pass here
        drawn, target_loss = drawn_blocks(judged_by, scores, targets, block=block, blocks=blocks, seed=seed)
        values = {name: losses_of(module, drawn) for name, module in modules.items()}
    shown = -target_loss if judged_by.higher_is_better else target_loss
    if bool((shown == shown[0]).all()):
        warnings.warn(
            f"{judged_by.name} is {float(shown[0]):.6g} on each of the {len(shown)} blocks, so that nothing can be "
            "ranked as it ranks; take larger blocks, or a metric that the scores move, such as average_precision where "
            "labels, read without a decision, are all of one class",
            stacklevel=2,
        )
    agreements = {name: agreement(value, target_loss, seed=seed) for name, value in values.items()}
    found = Diagnosis(judged_by.name, len(targets), len(drawn[0][1]), agreements, target_loss, values)
    if out is not None:
        _plot(found, shown, Path(out))
    return found


def read_predictions(path: Path, *, embeddings: bool = False) -> tuple[Tensor, Tensor]:
    """``(N,)`` or ``(N, C)`` float64 scores, and ``(N,)`` targets, int64 where all are whole.

    The columns of embeddings are no classes, so their class numbers are of any size.

    Raises:
        MetricgradError: naming the file, and the line or row that is wrong.
    """
    columns, table = row_numbers(
        path,
        lambda names: _score_columns(path, names),
        lambda where, row, columns: _numbers(where, row, ["target", *columns]),
    )
    targets, scores = table[:, 0], table[:, 1] if columns == ["score"] else table[:, 1:]
    whole = bool((targets == targets.round()).all())
    classes = whole and bool(((targets >= 0) & (targets < scores.shape[-1])).all())
    if scores.ndim == 2 and not (classes or embeddings):
        raise MetricgradError(
            f"{path}: targets are not all classes 0 to {scores.shape[1] - 1}, one for each score_ column"
        )
    return scores, targets.long() if whole else targets


def logits_of(probabilities: Tensor, path: str | Path, kind: ProblemKind) -> Tensor:
    """``(N,)`` logits of ``(N,)`` probabilities of yes, or ``(N, C)`` logs of those of classes.

    Raises:
        MetricgradError: for embeddings or a regression, values out of 0 to 1, or rows that do not sum to 1.
    """
    if kind not in ("binary", "multiclass"):
        raise MetricgradError(f"{path} is {kind}, whose scores are no probabilities; leave out --probabilities")
    outside = ((probabilities < 0) | (probabilities > 1)).reshape(len(probabilities), -1).any(1)
    off = (probabilities.sum(1) - 1).abs() > 1e-3 if probabilities.ndim == 2 else torch.zeros_like(outside)
    for rows, what in ((outside, "not all from 0 to 1"), (off, "classes that do not sum to 1")):
        if bool(rows.any()):
            raise MetricgradError(
                f"{path}, row {int(rows.nonzero()[0])}: {what}, so the scores are no probabilities; leave out "
                "--probabilities, and of what `metricgrad predict` wrote other columns named p_..."
            )
    kept = probabilities.clamp(1e-12, 1 - 1e-12)
    return kept.logit() if kept.ndim == 1 else kept.log()


def _score_columns(path: Path, names: list[str]) -> list[str]:
    numbered = sorted((name for name in names if re.fullmatch(r"score_\d+", name)), key=lambda name: int(name[6:]))
    if "target" not in names or ("score" in names) == bool(numbered):
        raise MetricgradError(
            f"{path} has columns {', '.join(names) or '(none)'}; expected target and either "
            "score or score_0, score_1 and so on; of what `metricgrad predict` wrote, name the column of true labels: "
            "--target"
        )
    if numbered and (len(numbered) < 2 or numbered != [f"score_{i}" for i in range(len(numbered))]):
        raise MetricgradError(f"{path}: score columns are {', '.join(numbered)}; expected score_0, score_1 and so on")
    return numbered or ["score"]


def _numbers(where: str, row: Row, columns: list[str]) -> list[float]:
    try:
        found = [float(row[column] or "") for column in columns]
    except ValueError:
        found = [torch.nan]
    if not all(abs(x) < torch.inf for x in found):
        raise MetricgradError(f"{where}: {', '.join(columns)} are not all finite numbers")
    return found


def _kind(scores: Tensor, targets: Tensor) -> ProblemKind:
    if scores.ndim == 2:
        return "multiclass"
    return "binary" if is_binary(targets) else "regression"


def _plot(found: Diagnosis, metric: Tensor, path: Path) -> None:
    """One panel a loss, one dot a block; it needs no display."""
    figure = new_figure(1 + 3.2 * len(found.losses), 3.6)
    panels = figure.subplots(1, len(found.losses), sharey=True, squeeze=False)[0]
    for panel, (name, values) in zip(panels, found.losses.items(), strict=True):
        panel.scatter(values, metric, s=12, alpha=0.5, linewidths=0, color="#1f5fa8")
        panel.set_title(f"{name}\n{found.agreements[name]}", fontsize=9)
        panel.set_xlabel("loss of a block")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(found.metric)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetricgradError(f"cannot write the plot {path}: {error}") from error
    write_figure(figure, path)
