"""``metricgrad predict``: answers for every row of a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(help="A folder that `metricgrad train` wrote.")],
    file: Annotated[str, typer.Argument(help="A CSV or Parquet file with the columns it was trained on.")],
    out: Annotated[
        str | None, typer.Option(help="A CSV or Parquet file for the answers; by default CSV on stdout.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="A column that names rows; by default their number from 1.")] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Columns to write beside the answers, with commas between, such as the true labels for `metricgrad "
            "diagnose`."
        ),
    ] = None,
) -> None:
    """Write each row's label by the model's decision, and its probabilities, or its value."""
    from metricgrad.cli.table_options import names
    from metricgrad.tables.answers import answer_file
    from metricgrad.tables.model_folder import load_table_model

    rows = answer_file(
        load_table_model(model), file, out, id=id, keep=names(keep or ""),
        say=lambda note: print(f"note: {note}", file=sys.stderr),
    )  # fmt: skip
    print(f"{rows:,} rows" + (f" to {out}" if out is not None else ""), file=sys.stderr)
