"""A learner with callbacks, as fastai has one, aligned by a callback: ``python examples/callback_learner.py``.

fastai itself asks for torchvision; its ``Callback`` has these moments under these names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg


@dataclass
class Learner:
    """Trains a model, and tells its callbacks when it begins and ends."""

    train: Iterable[Any]
    valid: Iterable[Any]
    model: nn.Module
    loss_func: Any
    lr: float = 1e-2
    cbs: list[Any] = field(default_factory=list)

    def fit(self, epochs: int) -> None:
        """So many passes over the training batches."""
        self.opt = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        self.n_epoch = epochs
        for callback in self.cbs:
            callback.learn = self
            callback.before_fit()
        try:
            for _ in range(epochs):
                for inputs, targets in self.train:
                    self.loss_func(self.model(inputs), targets).backward()
                    self.opt.step()
                    self.opt.zero_grad()
        finally:
            for callback in self.cbs:
                callback.after_fit()


class AlignLoss:
    """The loss of a learner moves while it trains."""

    learn: Learner

    def before_fit(self) -> None:
        """The optimiser is there now."""
        learn = self.learn
        steps = learn.n_epoch * len(learn.train)  # type: ignore[arg-type] - a DataLoader
        self.handle = learn.loss_func.attach(learn.model, learn.opt, valid=learn.valid, total_steps=steps)

    def after_fit(self) -> None:
        """Also where training broke off."""
        self.handle.detach()


def loader(inputs: Tensor, targets: Tensor, **options: Any) -> DataLoader[Any]:
    """Batches of 64."""
    return DataLoader(TensorDataset(inputs, targets), batch_size=64, **options)


def main(epochs: int = 6) -> float:
    """Accuracy on held-out digits, by a loss that looks one step ahead on the validation part."""
    torch.manual_seed(0)
    inputs, targets = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(targets)
    learner = Learner(
        loader(inputs[:1200], targets[:1200], shuffle=True), loader(inputs[1200:1400], targets[1200:1400]),
        nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)), mg.AdaLFL(num_outputs=10), cbs=[AlignLoss()],
    )  # fmt: skip
    learner.fit(epochs)
    with torch.no_grad():
        return float(mg.as_metric("accuracy")(learner.model(inputs[1400:]), targets[1400:]))


if __name__ == "__main__":
    print(f"accuracy on held-out digits: {main():.3f}")
