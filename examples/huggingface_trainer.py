"""Train a small transformer on F1 in Hugging Face's Trainer: ``python examples/huggingface_trainer.py``.

Nothing is downloaded: the text is Python's own manual, the weights are random. Which words had a capital letter, once
all stand in small ones? Few have, so accuracy says little and F1 is what counts.
"""

import re
import zlib
from pydoc_data.topics import topics
from typing import Any

import torch
import transformers
from transformers import BertConfig, BertForTokenClassification, TrainingArguments

import metricgrad as mg
from metricgrad.integrations.huggingface import AlignLoss, compute_loss_func

LENGTH, VOCABULARY = 24, 2000


def sentences(chapters: list[str]) -> list[dict[str, Any]]:
    """Their words as numbers, padded, with labels of -100 where there is no word."""
    rows = []
    for chapter in chapters:
        for part in re.split(r"[.:\n]{2,}|\. ", topics[chapter]):
            words = re.findall(r"[A-Za-z]+", part)[:LENGTH]
            if len(words) >= 4:
                rest = LENGTH - len(words)
                rows.append(
                    {
                        "input_ids": [1 + zlib.crc32(word.lower().encode()) % (VOCABULARY - 1) for word in words]
                        + [0] * rest,
                        "attention_mask": [1] * len(words) + [0] * rest,
                        "labels": [int(word[0].isupper()) for word in words] + [-100] * rest,
                    }
                )
    return rows


def main(epochs: int = 3, folder: str = "runs/huggingface") -> float:
    """Macro F1 of the words of chapters that were not trained on."""
    transformers.set_seed(0)
    train = sentences(["typesseq", "typesmapping", "import", "specialnames", "dynamic-features", "exceptions", "with"])
    held_out = sentences(["objects", "naming"])
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=LENGTH, num_labels=2,
    )  # fmt: skip
    loss = mg.UniLoss("macro_f1")
    trainer = transformers.Trainer(
        BertForTokenClassification(config),
        TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=32,
            learning_rate=5e-3, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
        ),
        train_dataset=train, eval_dataset=held_out, compute_loss_func=compute_loss_func(loss),
        callbacks=[AlignLoss(loss)],
    )  # fmt: skip
    trainer.train()
    found = trainer.predict(held_out)
    metric = mg.as_metric("macro_f1", ignore_index=-100, class_dim=-1)
    return float(metric(torch.tensor(found.predictions), torch.tensor(found.label_ids)))


if __name__ == "__main__":
    print(f"macro F1 on held-out words: {main():.3f}")
