"""Answer spans in scikit-learn's docstrings: token F1 and exact match of cross-entropy, ReLoss and UniLoss.

    python benchmarks/spans.py

Every seed draws modules of scikit-learn anew into a training part of 1,000 questions, 800 for validation and 2,000 for
the test, and trains the same reader from the same first weights with Adam in the same order of batches. Every loss has
the same list of learning rates, from which the best F1 on the validation part of a draw of its own (seed 900) chooses;
in each run the best epoch on validation is scored on the test part, once. The run of cross-entropy that records scores
for ReLoss, and the fit, use the training part of the seed alone and are charged to it in the column of seconds.

"+ 0.1 CE" adds a tenth of cross-entropy, which is what ReLoss has by default. UniLoss(exact_match) is trained on the
other metric: where it is as good on F1, nothing says that training on F1 helps F1. The smoothed cross-entropy spreads
its tenth over the words of the passage, not over padding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import common
import metricgrad as mg
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.tasks.split import Splits
from metricgrad.training.reloss_of_task import fitted_on_training
from tasks.docstring_answers.data import docstring_questions
from tasks.docstring_answers.task import docstring_answers, read_docstring_questions

SEEDS, TUNING_SEED, EPOCHS, BATCH = 5, 900, 10, 32
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
CE, SMOOTHED, RELOSS, UNILOSS = "cross-entropy", "cross-entropy, smoothing 0.1", "ReLoss(span_f1)", "UniLoss(span_f1)"
OVERLAP = 2.0  # draws share modules: test questions for each training question
OURS = (RELOSS, UNILOSS, "UniLoss(span_f1) + 0.1 CE")
Make = Callable[[int, Splits], tuple[nn.Module, float, dict[str, Any]]]


class Smoothed(nn.Module):
    """Cross-entropy with a share of the target spread over the words; padding has the row's lowest score."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        log_p = scores.log_softmax(-1)
        words = scores > scores.amin(-1, keepdim=True)
        right = log_p.gather(-1, targets[..., None])[..., 0]
        spread = (log_p * words).sum(-1) / words.sum(-1).clamp(min=1)
        return -((1 - self.share) * right + self.share * spread).mean()


class Anchored(nn.Module):
    """A loss and a tenth of cross-entropy."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss, self.standard = loss, CrossEntropy()

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """0-d."""
        return self.loss(scores, targets) + 0.1 * self.standard(scores, targets)


def reloss(seed: int, parts: Splits) -> tuple[nn.Module, float, dict[str, Any]]:
    """The loss fitted on this training part, the seconds that took, and what it says of itself."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report below says it
        loss = fitted_on_training(
            mg.as_metric("span_f1"), docstring_answers.model, parts.train, batch_size=BATCH, seed=seed
        )
    found = loss.report()
    kept = {name: found[name]["value"] for name in ("correlation", "standard", "difference")}
    return loss, time.process_time() - start, {**kept, "beats_standard": found["beats_standard"]}


def losses() -> dict[str, Make]:
    """Name to what makes a fresh loss for a seed and its parts."""
    return {
        CE: lambda seed, parts: (CrossEntropy(), 0.0, {}),
        SMOOTHED: lambda seed, parts: (Smoothed(0.1), 0.0, {}),
        RELOSS: reloss,
        UNILOSS: lambda seed, parts: (mg.UniLoss("span_f1", seed=seed), 0.0, {}),
        OURS[2]: lambda seed, parts: (Anchored(mg.UniLoss("span_f1", seed=seed)), 0.0, {}),
        "UniLoss(exact_match)": lambda seed, parts: (mg.UniLoss("exact_match", seed=seed), 0.0, {}),
    }


def train(loss: nn.Module, rate: float, seed: int, parts: Splits, *, test: bool) -> dict[str, float]:
    """The best epoch's F1 on validation, its F1 and exact match on test where asked for, seconds of training."""
    torch.manual_seed(seed)
    model = docstring_answers.model()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    (inputs, targets), f1, exact = parts.train, mg.as_metric("span_f1"), mg.as_metric("exact_match")
    generator = torch.Generator().manual_seed(seed)
    best, state, seconds = -1.0, model.state_dict(), 0.0
    for _ in range(EPOCHS):
        start = time.process_time()
        model.train()
        for rows in torch.randperm(len(targets), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        seconds += time.process_time() - start
        value = float(f1(scored(model, parts.valid[0]), parts.valid[1]))
        if value > best:
            best, state = value, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = {"valid": best, "seconds": seconds}
    if test:
        model.load_state_dict(state)
        scores = scored(model, parts.test[0])
        found |= {"f1": float(f1(scores, parts.test[1])), "exact": float(exact(scores, parts.test[1]))}
    return found


@torch.no_grad()
def scored(model: nn.Module, inputs: Tensor) -> Tensor:
    """Scores of all rows."""
    model.eval()
    return torch.cat([model(part) for part in inputs.split(256)])


def tuned(store: common.Store) -> dict[str, dict[float, float]]:
    """For every loss the validation F1 at each learning rate, on the draw that is for tuning alone."""
    parts = None
    found: dict[str, dict[float, float]] = {}
    for name, make in losses().items():
        loss, found[name] = None, {}
        for rate in RATES:
            if (value := store.get(key := f"{name} rate {rate:g}")) is None:
                parts = parts or Splits(*docstring_answers.load(TUNING_SEED))
                if loss is None or name != RELOSS:  # frozen: one fit serves all rates
                    loss, _, _ = make(TUNING_SEED, parts)
                value = store.add(key, train(loss, rate, TUNING_SEED, parts, test=False)["valid"])
                print(f"{key}: F1 {value:.4f} on validation", flush=True)
            found[name][rate] = value
    return found


def main() -> None:
    """Run what has not run yet, and write the results."""
    common.arguments(__doc__)
    store = common.Store("spans", SEEDS)
    rates = tuned(store)
    best = {name: max(found, key=lambda rate: found[rate]) for name, found in rates.items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in best}
    for seed in range(SEEDS):
        parts = None
        for name, make in losses().items():
            if (run := store.get(key := f"{name} seed {seed}")) is None:
                parts = parts or Splits(*docstring_answers.load(seed))
                loss, before, said = make(seed, parts)
                run = train(loss, best[name], seed, parts, test=True)
                run = store.add(key, {**run, "before": before, **said})
                print(f"{key}: F1 {run['f1']:.4f}, exact match {run['exact']:.4f}", flush=True)
            runs[name].append(run)
    rows = {
        name: {
            "lr": best[name],
            "rates": {f"{rate:g}": value for rate, value in rates[name].items()},
            "runs": of_seeds,
            "f1": common.interval([run["f1"] for run in of_seeds]),
            "exact": common.interval([run["exact"] for run in of_seeds]),
            "seconds": sum(run["seconds"] + run["before"] for run in of_seeds) / len(of_seeds),
        }
        for name, of_seeds in runs.items()
    }
    against = {
        ours: {
            other: {
                kind: common.paired([run[kind] for run in runs[ours]], [run[kind] for run in runs[other]], OVERLAP)
                for kind in ("f1", "exact")
            }
            for other in runs if other != ours
        }
        for ours in OURS
    }  # fmt: skip
    for name, row in rows.items():
        print(
            f"{name:28} lr {row['lr']:g}  F1 {row['f1']['mean']:.4f}  exact {row['exact']['mean']:.4f}  "
            f"{row['seconds']:.0f} s"
        )
    data = read_docstring_questions()
    text = {"questions": len(data), "modules": len(data.titles), "version": docstring_questions()["version"]}
    store.finish(rows=rows, against=against, text=text)


if __name__ == "__main__":
    main()
