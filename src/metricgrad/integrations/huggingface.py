"""Hugging Face: losses of ours in ``transformers.Trainer``, aligned while it trains."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from metricgrad import serialization
from metricgrad.aligners.base import Forward
from metricgrad.errors import MetricgradError
from metricgrad.handle import Handle
from metricgrad.loss import Loss
from metricgrad.losses.calling import called
from metricgrad.training.chunked_forward import in_chunks

#: What collators put where a token has no label, and what the trainer leaves out when it counts items.
IGNORED = -100

_FILE = "metricgrad_loss.safetensors"


class compute_loss_func:  # noqa: N801 - named as the argument of Trainer that it is for
    r"""A loss as ``Trainer(compute_loss_func=compute_loss_func(loss))`` takes it.

    Logits are those of the model's output, of sequence, token or image classification, and of regression. Whole
    labels of -100 are left out. Classes that could be on axis 1 or last, as of 9 tags in sentences of 9 tokens, are
    taken to be last, as these models have them.

    Under gradient accumulation the step's loss is :math:`\sum_b \frac{n_b}{n} L_b` over its batches b with
    :math:`n_b` labels each, which is what is logged; without it that is the loss of the batch. A metric of sets, such
    as F1 or AUROC, is no mean over rows: accumulation makes it the mean over the batches, not that of all rows.
    The trainer counts labels by the name ``labels``; others are refused.

    With several processes a loss of ours is one of the rows of all (docs/distributed.md), and each is told so.

    Args:
        loss: of ours, or any module or function of scores and targets, which is then handed ``(N, C)`` scores and
            ``(N,)`` labels of what is left; see :mod:`metricgrad.losses.calling`.

    Raises:
        MetricgradError: for what cannot be called, for outputs without logits or of a causal language model, whose
            logits are those of the next token, and where there are no labels.

    Example:
        >>> import torch, metricgrad as mg
        >>> from transformers.modeling_outputs import SequenceClassifierOutput
        >>> outputs = SequenceClassifierOutput(logits=torch.tensor([[2.0, 0.0], [0.5, 1.0]]))
        >>> loss = compute_loss_func(mg.UniLoss("accuracy"))
        >>> float(loss(outputs, torch.tensor([0, 0]), num_items_in_batch=torch.tensor(4)))
        0.25
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        if not callable(loss) or isinstance(loss, type):
            raise MetricgradError(f"loss is {loss!r:.60}; expected a loss, such as mg.UniLoss('macro_f1')")
        self.loss = loss

    def __call__(
        self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:  # fmt: skip
        """0-d: the loss of a batch, times its share of the step's labels.

        Args:
            outputs: of the model.
            labels: ``(N,)``, ``(N, T)`` or in the shape of the logits.
            num_items_in_batch: labels in the whole step that are not -100; None: this batch is the step.
        """
        if labels is None:
            raise MetricgradError(
                "the batch has no 'labels', which the trainer hands to a loss; name the column so, and the argument of "
                "the model's forward too"
            )
        _refuse_causal(outputs)
        scores = logits_of(outputs)
        value = self._value(scores, labels)
        if num_items_in_batch is None:
            return value
        here = (labels != IGNORED).sum().to(value)
        items = here.new_tensor(num_items_in_batch) if isinstance(num_items_in_batch, int) else num_items_in_batch
        if isinstance(self.loss, Loss) and self.loss.training and torch.is_grad_enabled():
            here, items = self.loss.ranks.mean([here, items.to(here)])  # the rows are those of all ranks
            self.loss.aligner.on_loss_share(float(here / items))
        return value * (here / items)

    def _value(self, scores: Tensor, labels: Tensor) -> Tensor:
        if isinstance(self.loss, Loss):
            tell(self.loss, labels)
            return self.loss(scores, labels)
        if not labels.is_floating_point() and scores.ndim == labels.ndim + 1:
            kept = labels != IGNORED
            scores, labels = scores[kept], labels[kept]
        return called(self.loss, scores, labels)


class AlignLoss(TrainerCallback):
    """Attaches a loss when training begins and detaches it when it ends: ``Trainer(callbacks=[AlignLoss(loss)])``.

    For losses that move while the model trains, ALA and AdaLFL, and for those whose weights follow how far training
    is, as UniLoss's do: it tells them how many optimiser steps there will be. Each checkpoint of the trainer gets the
    loss's state too, and a training that is resumed from it goes on with that.

    Args:
        loss: what ``compute_loss_func`` was made of, or that itself.
        valid: validation batches, any iterable that can be iterated again, such as ``trainer.get_eval_dataloader()``:
            ``trainer.add_callback(AlignLoss(loss, valid=trainer.get_eval_dataloader()))``. They then steer the
            training, so what is reported of them is no held-out value.
        forward: ``forward(model, batch) -> (scores, targets)``; by default the logits of ``model(**batch)`` and the
            batch's ``labels``.
        microbatch: so many rows of a batch are taken forward and backward at a time, in the memory of these, while the
            loss is one of the whole batch, and so is its gradient: a large ``per_device_train_batch_size`` in place of
            ``gradient_accumulation_steps``, which adds up losses of small batches (docs/large-batches.md). The model
            scores each batch twice; of its output in training the logits are left.
        checkpoint: the folder that training is resumed from, where it is not one of ``output_dir``.

    Raises:
        MetricgradError: for a loss that is none of ours, and what :meth:`metricgrad.Loss.attach` refuses.

    Warns:
        UserWarning: where training is resumed and the state of the loss is not found, and for a
            ``label_smoothing_factor``, which the trainer does not hand to a loss.
    """

    def __init__(
        self,
        loss: Loss | compute_loss_func,
        *,
        valid: Iterable[Any] | None = None,
        forward: Forward | None = None,
        microbatch: int | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        inner = loss.loss if isinstance(loss, compute_loss_func) else loss
        if not isinstance(inner, Loss):
            raise MetricgradError(
                f"loss is a {type(inner).__name__}, which nothing aligns; expected one of ours, such as mg.ALA('f1')"
            )
        self.loss, self._valid, self._forward, self._microbatch = inner, valid, forward, microbatch
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        self._handles: list[Handle] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach, with the state of the checkpoint that training goes on from."""
        self._detach()  # of a training that broke off
        if args.label_smoothing_factor:
            warnings.warn(
                f"label_smoothing_factor is {args.label_smoothing_factor}, and the trainer leaves it out where there "
                "is a compute_loss_func: this training is without; set it to 0",
                stacklevel=2,
            )
        if state.global_step:
            self._resume(self._checkpoint or _folder(args, state), state)
        handle = self.loss.attach(
            kwargs["model"],
            kwargs["optimizer"],
            valid=self._valid,
            forward=self._forward or self._logits_and_labels,
            total_steps=state.max_steps if state.max_steps > 0 else None,
        )
        self._handles.append(handle)
        if self._microbatch is not None:
            self._handles.append(in_chunks(kwargs["model"], self._microbatch, logits_of)[1])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the hooks off."""
        self._detach()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the loss's state beside the model's."""
        folder = _folder(args, state)
        if state.is_world_process_zero and folder.is_dir():
            held = self.loss.state_dict()
            tensors = {name: part for name, part in held.items() if isinstance(part, Tensor)}
            extra = {name: part for name, part in held.items() if not isinstance(part, Tensor)}
            header = {"state": "of a loss", "extra": extra, "history": _history(state)}
            serialization.write(folder / _FILE, tensors, header)

    def _resume(self, folder: Path, state: TrainerState) -> None:
        path = folder / _FILE
        if path.exists():
            file = serialization.read(path, part="state", writer="AlignLoss")
            if file.header.get("history", _history(state)) == _history(state):
                with file.blamed():
                    file.fill(self.loss, file.header.get("extra"))
                return
        if state.is_world_process_zero or not self.loss.ranks.gather:  # the others have it from the first
            warnings.warn(
                f"training goes on at step {state.global_step}, but "
                + (f"{path} is of another training" if path.exists() else f"there is no {path}")
                + ": the loss begins anew; pass the folder that is resumed from: AlignLoss(loss, checkpoint=folder)",
                stacklevel=2,
            )

    def _detach(self) -> None:
        while self._handles:
            self._handles.pop().detach()

    def _logits_and_labels(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(batch, Mapping) or "labels" not in batch:
            raise MetricgradError(
                f"a validation batch is a {type(batch).__name__} without 'labels'; pass batches as the trainer's "
                "loaders give them, or AlignLoss(forward=lambda model, batch: (scores, targets))"
            )
        inputs = {name: part for name, part in batch.items() if name != "labels"}
        labels = cast(Tensor, batch["labels"])
        tell(self.loss, labels)
        outputs = model(**inputs)
        _refuse_causal(outputs)
        return logits_of(outputs), labels


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the trainer keeps this step."""
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"


def _history(state: TrainerState) -> str:
    """A checksum of what was logged, which tells one training from another."""
    return f"{zlib.crc32(json.dumps(state.log_history, sort_keys=True, default=str).encode()):08x}"


def tell(loss: Loss, labels: Tensor) -> None:
    """Tell a loss how these models have their classes, and which labels count as none."""
    if not labels.is_floating_point():
        loss.classes.tell(class_dim=-1, ignore_index=IGNORED)


def _refuse_causal(outputs: Any) -> None:
    if "CausalLM" in type(outputs).__name__:
        raise MetricgradError(
            f"the model's output, a {type(outputs).__name__}, has the logits of each next token, and the labels are of "
            "each token itself; shift them in a function of your own: compute_loss_func=lambda outputs, labels, "
            "num_items_in_batch=None: loss(outputs.logits[:, :-1], labels[:, 1:])"
        )


def logits_of(outputs: Any) -> Tensor:
    """The logits of a model's output, be it a mapping, an object, a tuple or the logits themselves.

    Raises:
        MetricgradError: where there are none.
    """
    found = outputs
    if isinstance(outputs, Mapping):
        found = outputs.get("logits")
    elif isinstance(outputs, tuple):
        found = outputs[0] if outputs else None
    elif not isinstance(outputs, Tensor):
        found = getattr(outputs, "logits", None)
    if not isinstance(found, Tensor):
        raise MetricgradError(
            f"the model's output, a {type(outputs).__name__}, has no logits; write the loss into a compute_loss of "
            "your own: loss(scores, labels)"
        )
    return found
