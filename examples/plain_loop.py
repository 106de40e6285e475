"""Train on an unmodified scikit-learn metric in a plain PyTorch loop: ``python examples/plain_loop.py``."""

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from torch import nn

import metricgrad as mg


def main(epochs: int = 8) -> float:
    """Train on the first 1,400 digits and return the metric on the others."""
    torch.manual_seed(0)
    inputs, targets = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(targets)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    metric = mg.as_metric(balanced_accuracy_score)
    loss = mg.UniLoss(metric)
    for _ in range(epochs):
        for rows in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()

    with torch.no_grad():
        return float(metric(model(inputs[1400:]), targets[1400:]))


if __name__ == "__main__":
    print(f"balanced accuracy on held-out digits: {main():.3f}")
