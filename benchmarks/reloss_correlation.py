"""How well losses rank blocks as metrics do: ReLoss, the objective it beats, and the losses people train on.

A model trains on two fifths of the items; losses are fitted to its recorded scores of another three tenths, and judged
on the last three tenths. Wide blocks are each of one moment of the training, any of them; narrow blocks are all of the
last moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.progress import track
from torch import Tensor

import common
from metricgrad.losses.networks.label_reader import error_rate, standardised_cross_entropy
from metricgrad.losses.networks.map_reader import of_standardised_maps
from surrogates import CORRELATION, OBJECTIVES, SOURCES, VALUE, blocks_of, correlation, fitted, recorded

SEEDS = 5
STANDARDISED = "standardised standard loss"
CELLS = [
    *(("digits", metric) for metric in ("accuracy", "top_k_accuracy:k=5", "macro_f1")),
    *(("fashion", metric) for metric in ("accuracy", "top_k_accuracy:k=5", "macro_f1")),
    *(("breast-cancer", metric) for metric in ("f1", "average_precision", "auroc")),
    *(("digit 8", metric) for metric in ("f1", "average_precision", "auroc")),
    ("figures", "pck:radius=2.0"),
]


def measure(source: str, metric: str, seed: int) -> dict[str, dict[str, float]]:
    """Kind of block to loss to its correlation with the metric."""
    found = recorded(SOURCES[source], seed)
    standard = SOURCES[source].standard
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"standard loss": standard}
    if source == "figures":
        losses |= {STANDARDISED: of_standardised_maps(standard)}
    else:
        losses |= {STANDARDISED: standardised_cross_entropy, "error rate": error_rate}
    losses |= {name: fitted(metric, found.fit, seed=seed, **options) for name, options in OBJECTIVES.items()}
    values = {}
    for kind, moments in (("wide", found.judge), ("narrow", found.judge[-1:])):
        blocks, target_loss = blocks_of(metric, moments, seed)
        values[kind] = {name: correlation(loss, blocks, target_loss) for name, loss in losses.items()}
    return values


def main() -> None:
    """Run what has not run yet, and write the results."""
    common.arguments(__doc__)
    store = common.Store("reloss_correlation", SEEDS)
    rows: list[dict[str, Any]] = []
    for source, metric in track(CELLS, "correlations"):
        runs = []
        for seed in range(SEEDS):
            key = f"{source}/{metric}/{seed}"
            runs.append(store.get(key) or store.add(key, measure(source, metric, seed)))
        for kind in ("wide", "narrow"):
            values = {name: [run[kind][name] for run in runs] for name in runs[0][kind]}
            rows.append({
                "data": source, "metric": metric, "blocks": kind,
                "losses": {name: common.interval(each) for name, each in values.items()},
                "over_rival": common.paired(values[CORRELATION], values[STANDARDISED]),
                "over_value": common.paired(values[CORRELATION], values[VALUE]),
            })  # fmt: skip
            print(source, metric, kind, {name: round(sum(v) / SEEDS, 3) for name, v in values.items()}, flush=True)
    store.finish(rows=rows)


if __name__ == "__main__":
    main()
