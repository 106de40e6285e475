"""Translation BLEU: token cross-entropy against ReLoss and UniLoss, on interface strings from English to Romanian.

    apt-get install libreoffice-l10n-ro
    python benchmarks/translation.py

A small non-autoregressive Transformer is trained on LibreOffice's message catalogues, by each loss with AdamW from the
same first weights for the same number of epochs. The learning rate is, for every loss, that of one short list which is
best on the validation part of a draw of its own; the epoch is that which is best on validation; the test part is scored
once a draw. The judge is sacrebleu's corpus BLEU of detokenised text, against references with all their words.

ReLoss is fitted on each draw's training part, to scores of a short run of cross-entropy; its seconds count both.
"""

from __future__ import annotations

import copy
import functools
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import common
import metricgrad as mg
from metricgrad.errors import MetricgradError
from metricgrad.losses.baselines.token_cross_entropy import TokenCrossEntropy
from metricgrad.training.reloss_of_task import fitted_on_training
from tasks.romanian_strings.bleu import text_bleu
from tasks.romanian_strings.task import METRIC, Strings, model, strings

SEEDS, EPOCHS, BATCH, TUNED_ON = 5, 6, 32, 900
RATES = (4e-3, 8e-3, 1.6e-2)
STANDARD, SCRATCH = "token cross-entropy", "UniLoss(bleu)"
Make = Callable[[int, int], nn.Module]


@functools.cache
def fitted(seed: int) -> tuple[nn.Module, float]:
    """The loss of a draw, which no learning rate changes, and the seconds it took."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says whether it is better than cross-entropy
        loss = fitted_on_training(mg.as_metric(METRIC), model, strings(seed).parts.train, batch_size=BATCH, seed=seed)
    return loss, time.process_time() - start


#: name -> the loss of a seed's draw, for a number of steps
LOSSES: dict[str, Make] = {
    STANDARD: lambda seed, steps: TokenCrossEntropy(),
    "label smoothing 0.1": lambda seed, steps: TokenCrossEntropy(label_smoothing=0.1),
    "ReLoss(bleu)": lambda seed, steps: fitted(seed)[0],
    "UniLoss(bleu), half warm-up": lambda seed, steps: mg.UniLoss(METRIC, warm_up=steps // 2, seed=seed),
    SCRATCH: lambda seed, steps: mg.UniLoss(METRIC, seed=seed),
}


def run(make: Make, rate: float, seed: int, *, final: bool) -> dict[str, Any]:
    """Train on the draw of this seed; BLEU on validation, and on test where ``final``, of the best epoch; seconds."""
    data = strings(seed)
    inputs, targets = data.parts.train
    steps = EPOCHS * -(-len(inputs) // BATCH)
    loss = make(seed, steps)
    before = fitted(seed)[1] if isinstance(loss, mg.ReLoss) else 0.0
    start = time.process_time()
    torch.manual_seed(seed)
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    # up over a tenth of the steps, then down to 0, as Transformers are trained
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    best, kept = -1.0, copy.deepcopy(network.state_dict())
    for _ in range(EPOCHS):
        network.train()
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
        value = bleu(network, data, 1)
        if value > best:
            best, kept = value, copy.deepcopy(network.state_dict())
    seconds = before + time.process_time() - start
    network.load_state_dict(kept)
    report = loss.report() if isinstance(loss, mg.ReLoss) else None
    test = bleu(network, data, 2) if final else None
    return {"valid": best, "test": test, "seconds": seconds, "fit": before, "report": report}


@torch.no_grad()
def bleu(network: nn.Module, data: Strings, part: int) -> float:
    """Of the likeliest word at each place."""
    network.eval()
    said = torch.cat([network(rows).argmax(-1) for rows in data.parts[part][0].split(512)])
    return text_bleu(data.words.decode(said), data.references[part])


def results(rates: dict[str, dict[float, float]], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What the report reads, of the seeds that every loss has finished."""
    count = min(map(len, runs.values()))
    tests = {name: [run["test"] for run in found[:count]] for name, found in runs.items()}
    rows = {
        name: {
            "lr": max(rates[name], key=rates[name].__getitem__),
            "valid_by_rate": list(rates[name].values()),
            "bleu": common.interval(tests[name]),
            "values": tests[name],
            "over_standard": None if name == STANDARD else common.paired(tests[name], tests[STANDARD], 1 / 3),
            "seconds": common.interval([run["seconds"] for run in found[:count]])["mean"],
        }
        for name, found in runs.items()
    }
    fits = [found["report"] for found in runs["ReLoss(bleu)"][:count]]
    ranks = {key: [fit[key]["value"] for fit in fits] for key in ("correlation", "standard")}
    return {
        "epochs": EPOCHS,
        "rates": list(RATES),
        "paired_seeds": count,
        "seeds": count,
        "rows": rows,
        "reloss_ranks": ranks,
        "from_scratch_valid_by_rate": list(rates[SCRATCH].values()),
    }


def main(names: Sequence[str] = tuple(LOSSES)) -> None:
    """Run what has not run yet, seed by seed over all losses, and write the results after each seed."""
    common.arguments(__doc__)
    try:
        strings(0)
    except MetricgradError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return
    store = common.Store("translation", SEEDS)

    def once(name: str, rate: float, seed: int) -> dict[str, Any]:
        key = f"{name} rate {rate:g} seed {seed}"
        if (found := store.get(key)) is None:
            found = store.add(key, run(LOSSES[name], rate, seed, final=seed != TUNED_ON))
            print(f"{key:55} valid {found['valid']:.2f} {found['seconds']:.0f} s", flush=True)
        return found

    rates = {name: {rate: once(name, rate, TUNED_ON)["valid"] for rate in RATES} for name in names}
    # from scratch it hardly learns, so it is not run on every draw
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names if name != SCRATCH}
    for seed in range(SEEDS):
        for name in runs:
            runs[name].append(once(name, max(rates[name], key=rates[name].__getitem__), seed))
        if seed:
            store.finish(**results(rates, runs))


if __name__ == "__main__":
    main()
