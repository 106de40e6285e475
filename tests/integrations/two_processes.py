"""A training of a few steps in as many processes as there are; the first one writes what came of it."""

import json
import os
from pathlib import Path

import torch
import transformers

import metricgrad as mg
from metricgrad.integrations.huggingface import AlignLoss, compute_loss_func
from tests.integrations.sentences import classified, model, tagged

ROWS = 16


class Ordered(transformers.Trainer):
    """The rows in their order."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def main(folder: str, *runs: str) -> None:
    for run in runs:
        _trained(folder, run)


def _trained(folder: str, run: str) -> None:
    """Train on 16 rows a batch, however many processes share them; each in microbatches where they are several."""
    kind, accumulate, microbatch = run.split("-")
    net, loss = model(kind), mg.UniLoss("macro_f1")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    rows = int(microbatch) if processes > 1 else None
    arguments = transformers.TrainingArguments(
        output_dir=folder, max_steps=2, per_device_train_batch_size=ROWS // processes,
        gradient_accumulation_steps=int(accumulate), max_grad_norm=0.0, lr_scheduler_type="constant", logging_steps=1,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        ddp_backend="gloo" if processes > 1 else None,
    )  # fmt: skip
    trainer = Ordered(
        net, arguments, train_dataset=classified() if kind == "sequence" else tagged(),
        compute_loss_func=compute_loss_func(loss), callbacks=[AlignLoss(loss, microbatch=rows)],
        optimizers=(torch.optim.SGD(net.parameters(), lr=0.2), None),
    )  # fmt: skip
    trainer.train()
    if trainer.is_world_process_zero():
        logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        found = {"logged": logged, "weights": net.classifier.weight.flatten().tolist()}
        Path(folder, f"{run}-{processes}.json").write_text(json.dumps(found), "utf-8")
