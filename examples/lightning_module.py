"""A loss that learns while a LightningModule of your own trains: ``python examples/lightning_module.py``."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.integrations.lightning import AlignLoss
from metricgrad.tasks.registry import get_task


class Classifier(lightning.LightningModule):
    """Automatic optimisation, nothing special."""

    def __init__(self, model: torch.nn.Module, loss: mg.Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(inputs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the model alone: the loss is its aligner's."""
        return torch.optim.AdamW(self.model.parameters(), lr=5e-3)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """The loss of a batch."""
        inputs, targets = batch
        return self.loss(self(inputs), targets)


def main(epochs: int = 10) -> float:
    """Test accuracy on the digits, trained on a loss that a policy moves by the validation part."""
    lightning.seed_everything(0)
    task, accuracy = get_task("digits"), mg.as_metric("accuracy")
    train, valid, test = task.load(0)
    module = Classifier(task.model(), mg.ALA("accuracy", num_outputs=10))
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        callbacks=[AlignLoss()],
    )  # fmt: skip
    trainer.fit(
        module,
        DataLoader(TensorDataset(*train), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(*valid), batch_size=128),
    )
    with torch.no_grad():
        return float(accuracy(module.model(test[0]), test[1]))


if __name__ == "__main__":
    print(f"accuracy on held-out digits: {main():.3f}")
