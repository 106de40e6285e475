"""What a table holds that the training table did not: values and gaps that a model answers without having seen any."""

from __future__ import annotations

from collections import Counter

import numpy as np

from metricgrad.tables.columns import MISSING, OTHER, Columns, categories, features
from metricgrad.tables.schema import Schema

_SHOWN = 5


class UnlikeTraining:
    """Counts rows, chunk by chunk.

    Args:
        schema: of the table that was trained on.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._unknown: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()

    def count(self, columns: Columns) -> None:
        """Some more rows."""
        for place, column in enumerate(categories(self._schema)):
            self._unknown[column.name] += int((columns.codes[:, place] == OTHER).sum())
            if not column.missing:
                self._missing[column.name] += int((columns.codes[:, place] == MISSING).sum())
        absent = np.isnan(columns.numbers).sum(0).tolist()
        # the parts of a date are missing together
        of_numbers = {column.name: count for (column, _), count in zip(features(self._schema), absent, strict=True)}
        complete = {column.name for column in self._schema.columns if not column.missing}
        self._missing.update({name: count for name, count in of_numbers.items() if name in complete})

    def notes(self) -> list[str]:
        """One sentence for each kind, naming the columns with most such rows; none where there is nothing to say."""
        said = []
        if named := _named(self._unknown):
            said.append(f"values that training did not have, or too rarely to learn from: {named}")
        if named := _named(self._missing):
            said.append(f"rows without a value where training had one in every row: {named}")
        return said


def _named(counts: Counter[str]) -> str:
    found = [(name, count) for name, count in counts.most_common() if count]
    shown = ", ".join(f"{name!r} in {count:,} row{'s' * (count > 1)}" for name, count in found[:_SHOWN])
    return shown + (f" and {len(found) - _SHOWN} more columns" if len(found) > _SHOWN else "")
