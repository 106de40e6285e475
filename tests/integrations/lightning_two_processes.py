"""A Lightning training in as many processes as there are; the first one writes what came of it."""

import json
import os
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

import metricgrad as mg
from metricgrad.integrations.lightning import AlignLoss
from tests.integrations.test_lightning import LOSSES, TRAIN, VALID, Classifier


class Given(torch.utils.data.Sampler):
    """Batches of 20 rows, in their order."""

    def __iter__(self):
        return iter(torch.arange(len(TRAIN.dataset)).view(-1, 20).tolist())

    def __len__(self):
        return len(TRAIN.dataset) // 20


class Shared(Classifier):
    """Each process its part of every batch, of which it is told once the process group is there."""

    def train_dataloader(self):
        return DataLoader(
            TRAIN.dataset, batch_sampler=mg.RankBatches(Given()) if self.trainer.world_size > 1 else Given()
        )


def main(folder: str) -> None:
    """Two epochs, each batch shared among the processes, each loss in turn."""
    found, processes = {}, int(os.environ.get("WORLD_SIZE", "1"))
    for name, loss in LOSSES.items():
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
            use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, callbacks=[AlignLoss(valid=VALID)],
        )  # fmt: skip
        module = Shared(loss())
        trainer.fit(module)
        found[name] = [p.detach().flatten().tolist() for p in module.net.parameters()]
        found[f"{name}, the loss"] = [p.detach().flatten().tolist() for p in module.loss.form.parameters()]
    if trainer.global_rank == 0:
        Path(folder, f"{processes}.json").write_text(json.dumps(found), "utf-8")
