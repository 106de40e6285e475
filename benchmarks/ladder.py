"""The ladder on the tasks of where_it_pays.py: what ``losses="auto"`` recommends, beside cross-entropy decided alike.

    python benchmarks/ladder.py

Trials and draws are those of where_it_pays.py. Studies go on where they stopped.
"""

from __future__ import annotations

from climbs import climbed
from common import HERE, Store, arguments
from where_it_pays import SEEDS, STUDIES, TRIALS


def main() -> None:
    """Climb where it was not done yet, write the JSON."""
    store = Store("ladder", SEEDS)
    found = store.kept("studies")
    for name in arguments(__doc__, list(STUDIES)).only:
        task, metric, _, about = STUDIES[name]
        auto = climbed(task, TRIALS, SEEDS, HERE / "runs" / store.name / name, metric=metric)
        found[name] = {"about": about, "auto": auto}
        store.finish(trials=TRIALS, studies={name: found[name] for name in STUDIES if name in found})


if __name__ == "__main__":
    main()
