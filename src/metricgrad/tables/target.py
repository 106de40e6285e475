"""What is predicted: which kind of problem a target column poses to a metric, and which class is meant by what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from metricgrad.decisions.labels import is_ordinal
from metricgrad.did_you_mean import did_you_mean
from metricgrad.errors import MetricgradError
from metricgrad.metrics.metric import Metric
from metricgrad.tables.class_labels import alike, class_of, joined_by_value, label_codes, label_type
from metricgrad.tables.column_types import no_and_yes
from metricgrad.tables.schema import Target
from metricgrad.tables.values import as_numbers, as_texts, counts_of, is_boolean, refuse, style_of

if TYPE_CHECKING:
    import pandas as pd

_MOST_GRADES = 20  # different whole numbers that are taken for classes where the metric does not say
_MOST_CLASSES = 1000
_PROBED = 200


def understand_target(
    name: str,
    column: pd.Series,
    metric: Metric | None,
    *,
    positive: str | None = None,
    classes: Sequence[str] | None = None,
    from_csv: bool = False,
) -> Target:
    """The target, of rows that all have one.

    Args:
        name: of the column.
        column: its values.
        metric: what it is judged by, which says whether the target is classes or values.
        positive: the class that is looked for, of two.
        classes: all of them, in order.
        from_csv: whether the column is text because its file is, see
            :func:`metricgrad.tables.class_labels.label_type`.

    Raises:
        MetricgradError: where the values do not serve the metric, or which class is positive, or the order of classes,
            is not said and cannot be known.
    """
    numbers, wrong = as_numbers(column)
    written = style_of(as_texts(column), wrong) if wrong.any() else None
    if written is not None:
        numbers, wrong = as_numbers(column, style=written.style)
    numeric = not wrong.any()
    _check_metric(name, metric)
    told = numbers if numeric and not is_boolean(column) else None
    if _of_classes(name, told, metric, said=positive is not None or classes is not None):
        graded = told if written is None else None
        return _classes(name, column, graded, metric, positive, classes, from_csv)
    if numeric and (positive is not None or classes is not None):
        given = "positive" if positive is not None else "classes"
        judged = f"metric {metric.name!r} is of values" if metric else "its values are numbers"
        raise MetricgradError(f"{given} says classes, and target {name!r} is none: {judged}; leave {given} out")
    if not numeric:
        at = int(wrong.argmax())
        judged = f"metric {metric.name!r} is of values" if metric else "it would be a regression"
        raise MetricgradError(
            f"target {name!r} holds {str(column.iloc[at])[:40]!r}, which is no number, and {judged}; name a metric of "
            "classes, such as macro_f1, or another target"
        )
    spread = float(np.std(numbers))
    if not spread > 0:
        raise MetricgradError(f"target {name!r} is {numbers[0]:g} in every row; name a target that varies")
    style = None if written is None else written.style
    quartiles = tuple(np.quantile(numbers, [0.25, 0.5, 0.75]).tolist())
    return Target(name, "regression", centre=float(np.mean(numbers)), scale=spread, style=style, quartiles=quartiles)


def check_serves(target: Target, metric: Metric) -> None:
    """Refuse a metric of values where the target is classes, and the other way round.

    Raises:
        MetricgradError: naming both.
    """
    _check_metric(target.name, metric)
    if (metric.takes_logits or metric.structure is not None) and metric.takes_logits != bool(target.classes):
        of, is_, such = ("classes", "a value", "r2") if metric.takes_logits else ("values", "a class", "accuracy")
        raise MetricgradError(
            f"metric {metric.name!r} is of {of}, and target {target.name!r} is {is_}; name another, such as {such}"
        )


def encode_target(
    target: Target, column: pd.Series, first_row: int = 0, *, known: np.ndarray | None = None
) -> np.ndarray:
    """Class numbers as int64, or values in the target's unit as float64.

    Args:
        target: what was understood.
        column: values.
        first_row: how many rows came before this chunk.
        known: ``(N,)`` booleans, False where a value is missing and its code of no account; by default none is.

    Raises:
        MetricgradError: for a value that is none of the classes, or no number.
    """
    if target.type == "regression":
        numbers, wrong = as_numbers(column, style=target.style)
        wrong |= np.isnan(numbers)
        codes = (numbers - target.centre) / target.scale
    else:
        codes = label_codes(column, target.classes)
        wrong = codes < 0
    wrong = wrong if known is None else wrong & known
    expected = "no number" if target.type == "regression" else f"none of {', '.join(target.classes[:8])}"
    refuse(f"target {target.name!r}", column, wrong, f"which is {expected}", first_row)
    return codes


def written_in_several_ways(texts: Sequence[str]) -> str:
    """What is to be said of classes that differ by capitals or spaces alone."""
    return f"{', '.join(map(repr, texts))} differ by capitals or spaces alone: where they are one, write them alike"


def ranks_queries(metric: Metric) -> bool:
    """Whether it ranks the rows of each query; a metric of labels takes groups only where they are there."""
    return "groups" in metric.context and metric.reads != "labels"


def _check_metric(name: str, metric: Metric | None) -> None:
    if metric is not None and not metric.layout.of_decisions:
        raise MetricgradError(
            f"metric {metric.name!r} is of {type(metric.layout).__name__.lower()}, and target {name!r} is one value a "
            "row; name a metric of classes, such as f1, or of values, such as r2"
        )


def _of_classes(name: str, numbers: np.ndarray | None, metric: Metric | None, *, said: bool) -> bool:
    """Whether the target is classes: as the metric has it, or else as its values look."""
    distinct = np.unique(numbers) if numbers is not None else np.zeros(0)
    if metric is not None and metric.takes_logits:
        if len(distinct) > _MOST_CLASSES or (len(distinct) > _MOST_GRADES and bool((distinct % 1 != 0).any())):
            raise MetricgradError(
                f"metric {metric.name!r} is of classes, and target {name!r} holds {len(distinct):,} different numbers; "
                "name a metric of values, such as r2, or another target"
            )
        return True
    if metric is not None and metric.structure is not None:
        return False
    return said or numbers is None or (len(distinct) <= _MOST_GRADES and not bool((distinct % 1 != 0).any()))


def _classes(
    name: str, column: pd.Series, numbers: np.ndarray | None, metric: Metric | None, positive: str | None,
    classes: Sequence[str] | None, from_csv: bool,
) -> Target:  # fmt: skip
    counts = counts_of(as_texts(column))
    counts = joined_by_value(counts) if numbers is not None else dict(sorted(counts.items()))
    found = list(counts)
    if len(found) < 2:
        raise MetricgradError(f"target {name!r} is {found[0]!r} in every row; name a target that varies")
    if len(found) > _MOST_CLASSES or (numbers is None and len(found) > 50 and len(found) > len(column) / 10):
        raise MetricgradError(
            f"target {name!r} has {len(found):,} different texts in {len(column):,} rows; name a target of classes, or "
            "join the rare ones"
        )
    if classes is not None:
        found = _given(name, [class_of(one, found) for one in classes], found)
    if len(found) == 2:
        found = _binary(name, found, None if positive is None else class_of(positive, found), classes is not None)
    elif positive is not None:
        raise MetricgradError(
            f"positive is {positive!r}, and target {name!r} has {len(found)} classes ({', '.join(found[:5])}); it goes "
            "with two: leave it out, or join classes"
        )
    _try(name, metric, found, ordered=classes is not None or numbers is not None)
    kind = "binary" if len(found) == 2 else "multiclass"
    labels = label_type(column, found, from_csv=from_csv)
    return Target(name, kind, tuple(found), counts=tuple(counts[text] for text in found), labels=labels)


def _given(name: str, classes: list[str], found: list[str]) -> list[str]:
    """The order that was given, if it has each class once."""
    if len(set(classes)) != len(classes):
        raise MetricgradError(f"classes has {classes} with one of them twice; name each once")
    for one in classes:
        if one not in found:
            raise MetricgradError(f"classes has {one!r}, which target {name!r} never is: {did_you_mean(one, found)}")
    if missing := [one for one in found if one not in classes]:
        raise MetricgradError(
            f"classes lacks {', '.join(map(repr, missing[:5]))}, which target {name!r} is too; name all in order, such "
            f"as --classes {','.join([*classes, *missing[:5]])}"
        )
    return classes


def _binary(name: str, found: list[str], positive: str | None, given: bool) -> list[str]:
    """The negative class and the positive one."""
    if positive is not None:
        if positive not in found:
            raise MetricgradError(
                f"positive is {positive!r}, which target {name!r} never is: {did_you_mean(positive, found)}"
            )
        if given and found[1] != positive:
            raise MetricgradError(f"classes ends with {found[1]!r}, and positive is {positive!r}; say one of them")
        return [next(one for one in found if one != positive), positive]
    if given:
        return found
    if (known := no_and_yes(found)) is None:
        raise MetricgradError(
            f"target {name!r} is {found[0]!r} or {found[1]!r}, and neither is clearly the one to look for; "
            f"pass positive={found[0]!r} or {found[1]!r} (--positive {found[1]})"
        )
    return list(known)


def _try(name: str, metric: Metric | None, classes: list[str], *, ordered: bool) -> None:
    """Refuse a metric that does not take so many classes, and one of grades whose order nobody gave."""
    if metric is None:
        return
    count = len(classes)
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(max(_PROBED, count)) % count
    scores = torch.randn(len(targets), *([count] if count > 2 else []), generator=generator)
    try:
        metric(scores, targets)
    except MetricgradError as error:
        listed = f"{', '.join(classes[:8])}{', ...' * (count > 8)}"
        words = "".join(f"; {written_in_several_ways(texts)}" for texts in alike(classes)[:1])
        raise MetricgradError(f"target {name!r} has {count} classes ({listed}){words}: {error}") from error
    if count > 2 and not ordered and metric.reads == "labels" and is_ordinal(metric, scores.argmax(1), targets, count):
        raise MetricgradError(
            f"metric {metric.name!r} is of ordered grades, and target {name!r} is text ({', '.join(classes[:5])}); "
            f"pass them from low to high: classes=[...] (--classes {','.join(classes[:5])}{',...' * (count > 5)})"
        )
