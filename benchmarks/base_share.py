"""How much of the standard loss should stay when training ends: anchored UniLoss on the development tables.

Ten tasks whose metrics are of labels, three optimisers at rates that stay as they are, no choice of an epoch and no
decision: what a loop without validation ends with, which is the mean of the last three epochs. Validation parts alone
are looked at; every row has the seeds, the batches and the first weights of the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import Store, arguments, interval
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.tasks.task import Task
from tasks.tables.task import TASKS

SEEDS, LAST = 4, 3
NAMES = (
    "phoneme_f1", "page_blocks0_f1", "yeast6_f1", "lending_club_mcc", "penbased_macro_f1", "satimage_macro_f1",
    "contraceptive_macro_f1", "contraceptive_quadratic_kappa", "marketing_quadratic_kappa",
    "led7digit_balanced_accuracy",
)  # fmt: skip
STAYS = (0.0, 0.1, 0.3, 1.0)
OPTIMISERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam at 0.003": lambda model: torch.optim.Adam(model.parameters(), lr=0.003),
    "Adam at 0.01": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "SGD at 0.03, momentum 0.9": lambda model: torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9),
}


def loss_of(task: Task, stays: float | None, seed: int) -> mg.Loss:
    """Cross-entropy, or UniLoss beside so much of it at the end."""
    if stays is None:
        return mg.Loss(mg.forms.HandMade(CrossEntropy()))
    form = mg.forms.Anchored(
        "task", mg.forms.Linearized(task.judged_by()), base_weight=(1.0, stays, 1.0), weight=(0.0, 1.0, 1.0)
    )
    return mg.Loss(form, seed=seed)


def run(task: Task, optimiser: str, stays: float | None, seed: int) -> float:
    """The metric on validation at the end."""
    (inputs, targets), (held_back, truth), _ = task.load(seed)
    torch.manual_seed(seed)
    model, judge = task.model(), task.judged_by()
    optimizer, loss = OPTIMISERS[optimiser](model), loss_of(task, stays, seed)
    loss.attach(model, optimizer, total_steps=task.epochs * -(-len(targets) // task.batch_size))
    values: list[Tensor] = []
    for _ in range(task.epochs):
        for rows in torch.randperm(len(targets)).split(task.batch_size):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            values.append(judge(model(held_back), truth))
    return float(torch.stack(values[-LAST:]).mean())


def main() -> None:
    """Run what is missing, write the JSON."""
    asked = arguments(__doc__, list(NAMES)).only
    store = Store("base_share", SEEDS)
    cells = [(name, optimiser, seed) for seed in range(SEEDS) for name in asked for optimiser in OPTIMISERS]
    for name, optimiser, seed in track(cells, "trainings"):
        for stays in (None, *STAYS):
            key = f"{name}/{optimiser}/{stays}/{seed}"
            if store.get(key) is None:
                store.add(key, run(TASKS[name], optimiser, stays, seed))

    def gains(name: str, optimiser: str, stays: float) -> list[float]:
        found = [[store.get(f"{name}/{optimiser}/{row}/{seed}") for row in (stays, None)] for seed in range(SEEDS)]
        return [ours - base for ours, base in found]

    store.finish(
        last=LAST,
        gains={
            name: {
                optimiser: {str(stays): interval(gains(name, optimiser, stays)) for stays in STAYS}
                for optimiser in OPTIMISERS
            }
            for name in asked
        },
    )


if __name__ == "__main__":
    main()
