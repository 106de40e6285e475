"""A loss that learns while a LightningModule of your own trains: ``python examples/lightning_module.py``."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.tasks.registry import get_task


class Classifier(lightning.LightningModule):
    """Automatic optimisation, nothing special: the loss is attached once the optimiser is there."""

    def __init__(self, model: torch.nn.Module, loss: mg.Loss, valid: DataLoader) -> None:
        super().__init__()
        self.model, self.loss, self.feedback = model, loss, valid

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the model alone: the loss is its aligner's."""
        return torch.optim.AdamW(self.model.parameters(), lr=5e-3)

    def on_fit_start(self) -> None:
        """Hooks on the optimiser, which :meth:`on_fit_end` takes off."""
        self.handle = self.loss.attach(self.model, self.trainer.optimizers[0], valid=self.feedback)

    def on_fit_end(self) -> None:
        """The loss stands still again."""
        self.handle.detach()

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Logits and targets."""
        inputs, targets = batch
        return self.loss(self.model(inputs), targets)


def main(epochs: int = 10) -> float:
    """Test accuracy on the digits, trained on a loss that a policy moves by the validation part."""
    lightning.seed_everything(0)
    task, accuracy = get_task("digits"), mg.as_metric("accuracy")
    train, valid, test = task.load(0)
    module = Classifier(
        task.model(), mg.ALA("accuracy", num_outputs=10), DataLoader(TensorDataset(*valid), batch_size=128)
    )
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(module, DataLoader(TensorDataset(*train), batch_size=64, shuffle=True))
    with torch.no_grad():
        return float(accuracy(module.model(test[0]), test[1]))


if __name__ == "__main__":
    print(f"accuracy on held-out digits: {main():.3f}")
