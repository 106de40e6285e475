"""``metricgrad train``: the model of a table, written as a folder."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from metricgrad.cli import table_options

if TYPE_CHECKING:
    from metricgrad.tables.model import TableModel


def train(
    file: Annotated[str, typer.Argument(help="A CSV or Parquet file.")],
    out: Annotated[str, typer.Option(help="The folder of the model, for `metricgrad predict` and mg.load_model.")],
    metric: Annotated[
        str | None, typer.Option(help="What decides: a name, name:key=value, pkg.mod:fn or file.py:fn.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="A name of `metricgrad losses`, or lightgbm. Default: uniloss.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="The folder of a comparison: train what it recommends, as it was tuned. Options of the table and the "
            "metric that are not given are as they were there."
        ),
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option(help="What it is delivered under: auto, none, or a kind. Default: auto, or the comparison's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of the parts and everything else random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")] = False,
    target: table_options.Target = None,
    positive: table_options.Positive = None,
    classes: table_options.Classes = None,
    group: table_options.Group = None,
    weight: table_options.Weight = None,
    split: table_options.Split = None,
    time: table_options.Time = None,
    drop: table_options.Drop = None,
) -> None:
    """Train the model of a table by a metric, judge it once on rows held back, and write it as a folder."""
    options = {
        "target": target, "positive": positive, "classes": classes, "group": group, "weight": weight, "split": split,
        "time": time, "drop": drop,
    }  # fmt: skip
    if like is not None:
        metric, options = table_options.as_in(like, file, metric, options)
    task = table_options.table_task(file, metric, **options)
    from metricgrad.table_training import train_table

    command = shlex.join(["metricgrad", *sys.argv[1:]])
    try:
        model = train_table(
            task, loss=loss, like=like, decision=decision, out=out, seed=seed, about={"command": command}
        )
    except KeyboardInterrupt as stop:
        kept = f"stopped; whole epochs are kept in {out}, and the same command goes on from there"
        raise KeyboardInterrupt(kept) from stop
    _print(model, out, like, as_json=as_json)


def _print(model: TableModel, out: str, like: str | None, *, as_json: bool) -> None:
    """What was trained and how good it is, on stdout."""
    from metricgrad.comparison.digits import six_digits
    from metricgrad.comparison.table import kind_name

    card = model.card
    values = {name: card[name] for name in ("valid", "valid_undecided", "test", "test_undecided")}
    said = {"model": out, "loss": card["asked"]["loss"], "decision": model.decision.kind, "metric": model.metric.name}
    if as_json:
        print(json.dumps({**said, **values, "caution": card.get("caution")}, allow_nan=False))
        return
    shown = {name: "undefined" if value is None else six_digits(value) for name, value in values.items()}
    without = "" if said["decision"] == "identity" else f" ({shown['test_undecided']} without its decision)"
    print(f"{said['metric']} {shown['test']} on rows held back{without}")
    if like is not None:
        print(f"as {like} recommends: {card['why']}")
    if (caution := card.get("caution")) is not None:
        print(f"note: {caution}")
    print(f"model: {out} ({said['loss']}, decision {kind_name(said['decision'])})")
