"""Where UniLoss pays and where it does not: against tuned cross-entropy, the blind margin and the wrong metric.

Every loss has the same trials, the same ranges and the same search for a decision; the trial best on validation is
trained again on ten fresh draws of the split; the test part is scored once a draw. All of it is ``metricgrad.compare``;
only the tasks are ours.
"""

from __future__ import annotations

import functools
from dataclasses import asdict

import torch
from torch import Tensor, nn

from common import HERE, Store, arguments
from linear import fashion_pixels, load, scorer
from metricgrad import Task, compare
from metricgrad.losses.registry import Range
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.registry import get_task
from metricgrad.tasks.split import Splits, split, standardise

TRIALS, SEEDS = 6, 10


def thinned(inputs: Tensor, targets: Tensor, largest: int, ratio: float, seed: int) -> Splits:
    """Class c keeps ``largest * ratio^(-c / 9)`` items: imbalance, the rarest class last."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    keep = [order[targets[order] == c][: round(largest * ratio ** (-c / 9))] for c in range(10)]
    kept = torch.cat(keep)
    return standardise(split(inputs[kept], targets[kept], seed, stratify=True), features=False)


@functools.cache
def digit_pixels() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    return torch.as_tensor(inputs).float(), torch.as_tensor(targets)


def fashion_rare(seed: int) -> Splits:
    """8,000 items, 2 % of them shirts, the rest of other classes."""
    inputs, labels = fashion_pixels()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shirts, others = order[labels[order] == 6][:160], order[labels[order] != 6][:7840]
    kept = torch.cat([shirts, others])
    return standardise(split(inputs[kept], (labels[kept] == 6).long(), seed, stratify=True), features=False)


def outliers(seed: int) -> Splits:
    """2-D: 20 % positives at (1.5, 0), negatives at (-0.5, 0), deviation 1; 4 % of the training items lie far out.

    The outliers are positives around (-12, 6): no line can serve them and the rest, and their log-likelihood turns
    the line. Validation and test have them at the same rate, so nothing is hidden from the selection.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 3000
    y = (torch.rand(n, generator=generator) < 0.2).long()
    x = torch.randn(n, 2, generator=generator) + torch.where(y[:, None] > 0, 1.5, -0.5) * torch.tensor([1.0, 0.0])
    far = torch.rand(n, generator=generator) < 0.04
    x[far] = torch.randn(int(far.sum()), 2, generator=generator) + torch.tensor([-12.0, 6.0])
    y[far] = 1
    return split(x, y, seed)


def ten(inputs: int, hidden: int) -> nn.Module:
    """A multilayer perceptron with ten scores."""
    return mlp(inputs, 10, (hidden,))


CE, SMOOTHED = "cross_entropy", "cross_entropy:label_smoothing=0.1"
STANDARD = [CE, "cross_entropy:weighting=balanced", "focal"]
ALONE = "uniloss:anchored=False"  # the metric alone
OURS = [ALONE, "uniloss"]
FAST = Range(1e-2, 3e-1, default=3e-2)  # a linear scorer takes larger steps than a network
STUDIES: dict[str, tuple[Task, str, list[str], str]] = {
    "linear-ap": (
        Task("linear-ap", model=lambda: scorer("binary"), load=lambda seed: Splits(*load("binary", seed)),
             kind="binary", metric="average_precision", epochs=20, batch_size=512, lr=FAST, device="cpu"),
        "average_precision",
        [*STANDARD, "smooth_ap", "pairwise_logistic", *OURS, f"{ALONE},metric=auroc", "margin"],
        "average precision of a linear scorer, 16 principal components of Fashion-MNIST, shirts (5 %) against the rest",
    ),
    "linear-kappa": (
        Task("linear-kappa", model=lambda: scorer("multiclass"), load=lambda seed: Splits(*load("multiclass", seed)),
             metric="quadratic_kappa", kind="multiclass", epochs=20, batch_size=512, lr=FAST, device="cpu"),
        "quadratic_kappa",
        [*STANDARD, SMOOTHED, *OURS, f"{ALONE},metric=accuracy", "margin"],
        "quadratic kappa of a linear scorer, 4 principal components of Fashion-MNIST, class sizes falling 20:1",
    ),
    "outliers": (
        Task("outliers", model=lambda: mlp(2, None, ()), load=outliers, metric="f1", kind="binary", epochs=15,
             device="cpu"),
        "f1", [*STANDARD, "soft_f_beta", *OURS, f"{ALONE},metric=accuracy", "margin"],
        "F1 of a linear scorer, synthetic 2-D data with 4 % far outliers",
    ),
    "digits-macro-f1": (
        get_task("digits"), "macro_f1", [*STANDARD, *OURS, f"{ALONE},metric=accuracy", "margin"],
        "macro-F1, scikit-learn's digits",
    ),
    "digits-noisy": (
        get_task("digits-noisy"),
        "accuracy", [*STANDARD, SMOOTHED, *OURS, f"{ALONE},metric=quadratic_kappa", "margin"],
        "accuracy, scikit-learn's digits, 40 % of the training labels wrong, validation and test clean",
    ),
    "digits-kappa": (
        Task("digits-kappa", model=lambda: ten(64, 64), load=lambda seed: thinned(*digit_pixels(), 170, 10, seed),
             metric="quadratic_kappa", kind="multiclass", device="cpu"),
        "quadratic_kappa", [*STANDARD, *OURS, f"{ALONE},metric=accuracy", "margin"],
        "quadratic kappa, digits as grades 0 to 9, class sizes falling geometrically 10:1",
    ),
    "fashion-macro-f1": (
        Task("fashion-macro-f1", model=lambda: ten(784, 64), kind="multiclass", epochs=12, batch_size=128,
             load=lambda seed: thinned(*fashion_pixels(), 1500, 50, seed), metric="macro_f1", device="cpu"),
        "macro_f1", [*STANDARD, *OURS, f"{ALONE},metric=accuracy", "margin"],
        "macro-F1, Fashion-MNIST thinned geometrically 50:1 (1,500 to 30 items a class)",
    ),
    "fashion-rare": (
        Task("fashion-rare-8k", model=lambda: mlp(784, None, (128,)), load=fashion_rare, metric="average_precision",
             kind="binary", epochs=10, batch_size=128, device="cpu"),
        "average_precision", [*STANDARD, *OURS, f"{ALONE},metric=auroc", "margin"],
        "average precision, Fashion-MNIST shirts against the rest, 2 % positives, 8,000 items",
    ),
}  # fmt: skip


def main() -> None:
    """Run what is missing, write the JSON."""
    arguments(__doc__)
    store = Store("where_it_pays", SEEDS)
    found = {}
    for name, (task, metric, losses, about) in STUDIES.items():
        table = compare(task, metric=metric, losses=losses, trials=TRIALS, seeds=SEEDS, out=HERE / "runs" / name)
        names = [row["loss"] for row in table.summary]
        tests = {loss: [r["test"] for r in table.runs if r["loss"] == loss] for loss in names}
        seconds = {loss: sum(r["seconds"] for r in table.runs if r["loss"] == loss) / SEEDS for loss in names}
        found[name] = {
            "about": about, "metric": metric, "summary": [dict(row) for row in table.summary], "notes": table.notes,
            "recommendation": table.recommendation, "tests": tests, "seconds": seconds, "epochs": task.epochs,
            "batch": task.batch_size, "lr": asdict(task.lr), "weight_decay": asdict(task.weight_decay),
            "chosen": {r["loss"]: r["params"] for r in table.runs},
        }  # fmt: skip
        store.finish(trials=TRIALS, studies=found)


if __name__ == "__main__":
    main()
