"""``metricgrad evaluate``: how well a model does on rows whose target is known."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from metricgrad.cli import table_options


def evaluate(
    model: Annotated[str, typer.Argument(help="A folder that `metricgrad train` wrote.")],
    file: Annotated[str, typer.Argument(help="A CSV or Parquet file with the target beside the other columns.")],
    metric: Annotated[
        str | None,
        typer.Option(help="Another one than it was chosen by; that one again where it is a function of your own."),
    ] = None,
    weight: table_options.Weight = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")] = False,
) -> None:
    """Score a model on a table whose target is known, with its decision and without.

    That the table is the one it was trained on, whose rows it has seen, is said on stderr.
    """
    from metricgrad.comparison.digits import six_digits
    from metricgrad.metrics.as_metric import as_metric
    from metricgrad.tables.model_folder import load_table_model
    from metricgrad.tables.reading import checksum, read_chunks
    from metricgrad.training.network_folder import finite

    judged_by = None if metric is None else as_metric(metric)
    loaded = load_table_model(model, metric=judged_by)
    found = loaded.evaluate(read_chunks(file), judged_by, weight=weight)
    name, column = (judged_by or loaded.metric).name, weight or loaded.schema.weight
    if checksum(file) in loaded.card.get("data", {}).values():
        told = f"the model was trained on rows of {file}, so that this value flatters it; judge by other rows"
        print(f"note: {told}", file=sys.stderr)
    if as_json:
        values = {"value": finite(found.decided), "undecided": finite(found.undecided), "weight": column}
        print(json.dumps({"metric": name, **values}, allow_nan=False))
        return
    without = "" if loaded.decision.kind == "identity" else f" ({six_digits(found.undecided)} without its decision)"
    weighed = "" if column is None else f", rows weighed by {column!r}"
    print(f"{name} {six_digits(found.decided)}{without}{weighed}")
