"""The four systems in one plain loop, digits with 40 % wrong training labels: ``python examples/four_systems.py``.

One seed and one learning rate: to see how to call them, not which is best; for that there is ``metricgrad compare``.
"""

import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.tasks.registry import get_task


def train(loss, model, train_part, valid_batches, epochs):
    """An ordinary loop; where a loss moves while the model trains, ``attach`` lets it."""
    inputs, targets = train_part
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    attached = loss.attach(model, optimizer, valid=valid_batches) if isinstance(loss, mg.Loss) else None
    for _ in range(epochs):
        for rows in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    if attached is not None:
        attached.detach()


def surrogate(model, train_part, apart):
    """ReLoss: record the scores of a short run on rows it is not trained on, then fit a loss to them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    loss, (inputs, targets) = CrossEntropy(), train_part
    with mg.record_scores(model, optimizer, [apart]) as recorded:
        for rows in torch.randint(len(targets), (128, 64)):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return mg.ReLoss.fit("accuracy", recorded.scores, recorded.targets)


def main(epochs: int = 15) -> dict[str, float]:
    """Accuracy on the test part after training on each loss."""
    task, accuracy = get_task("digits-noisy"), mg.as_metric("accuracy")
    train_part, valid, test = task.load(0)
    half = len(train_part[1]) // 2
    parts = [tuple(side[rows] for side in train_part) for rows in (slice(half), slice(half, None))]
    losses = {
        "cross-entropy": CrossEntropy(),
        "UniLoss": mg.UniLoss("accuracy"),
        "ReLoss": surrogate(task.model(), *parts),
        "AdaLFL": mg.AdaLFL(num_outputs=10, residual=True),
        "ALA": mg.ALA("accuracy", num_outputs=10),
    }
    batches, found = list(zip(*(side.split(128) for side in valid), strict=True)), {}
    for name, loss in losses.items():
        torch.manual_seed(0)
        model: nn.Module = task.model()
        train(loss, model, train_part, batches, epochs)
        with torch.no_grad():
            found[name] = float(accuracy(model(test[0]), test[1]))
    return found


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:14} {value:.3f}")
