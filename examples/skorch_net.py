"""A loss of ours as the criterion of a skorch net, in scikit-learn's own words: ``python examples/skorch_net.py``."""

from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

import metricgrad as mg


class AlignLoss(Callback):
    """Tells the loss how long training is, and lets one that moves see validation batches."""

    def __init__(self, valid: Any = None) -> None:
        self.valid = valid

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        """Attach."""
        steps = net.max_epochs * -(-len(X) // net.batch_size)
        self.handle_ = net.criterion_.attach(net.module_, net.optimizer_, valid=self.valid, total_steps=steps)

    def on_train_end(self, net: Any, **_: Any) -> None:
        """Detach."""
        self.handle_.detach()


def main(epochs: int = 10) -> float:
    """Macro F1 of held-out digits."""
    torch.manual_seed(0)
    inputs, targets = load_digits(return_X_y=True)
    parts = train_test_split(inputs.astype("float32") / 16, targets, random_state=0, stratify=targets)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)),
        criterion=mg.UniLoss, criterion__metric="macro_f1", predict_nonlinearity=lambda scores: scores.softmax(-1),
        optimizer=torch.optim.Adam, lr=1e-2, max_epochs=epochs, batch_size=64, train_split=None, verbose=0,
        callbacks=[AlignLoss()],
    )  # fmt: skip
    net.fit(parts[0], parts[2])
    return float(f1_score(parts[3], net.predict(parts[1]), average="macro"))


if __name__ == "__main__":
    print(f"macro F1 on held-out digits: {main():.3f}")
