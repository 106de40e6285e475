"""Scores of a model at many moments of its training, for losses that are fitted before another training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.training.options import check_counts, no_module


class record_scores:  # noqa: N801  (a context manager, read as a verb)
    """Collects early- and late-training scores of batches that the model is not trained on.

    Use it round a training loop of your own, then hand what it holds to :meth:`metricgrad.ReLoss.fit`: a loss that has
    to teach an untrained model must have seen an untrained model's scores. Rows repeat, once for each recording, so
    rows held out by a later fit are held out as pairs, not as items.

    Args:
        model: what is trained.
        optimizer: its steps are counted; nothing of it changes.
        batches: any iterable that can be read many times, such as a validation loader or a list of batches.
        forward: ``forward(model, batch) -> (scores, targets)``; by default a batch is (inputs, targets).
        every: steps between recordings; by default steps 0, 1, 2, 4, 8 and so on, which has as much of the first
            moments as of the last, and the moment the context ends.

    Cost: a forward pass over the batches for each recording; the scores stay in memory, on the CPU.

    Raises:
        MetricgradError: for ``every`` below 1, or where ``scores`` is asked for and nothing was recorded.

    Example:
        >>> import torch, metricgrad as mg
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> y, model = (x[:, 0] > 0).long(), torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with mg.record_scores(model, optimizer, [(x[:40], y[:40])]) as recorded:
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(model(x[40:]), y[40:]).backward()
        ...         _ = optimizer.step()
        >>> recorded.steps, tuple(recorded.scores.shape)
        ([0, 1, 2, 4, 5], (200, 2))
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterable[Any],
        *,
        forward: Forward | None = None,
        every: int | None = None,
    ) -> None:
        check_counts(every=every)
        if not isinstance(cast("object", model), nn.Module):
            raise MetricgradError(f"model is {no_module(model)}")
        if not hasattr(optimizer, "register_step_post_hook"):
            raise MetricgradError(
                f"optimizer is a {type(optimizer).__name__}; give the torch.optim.Optimizer that steps the model"
            )
        if not isinstance(cast("object", batches), Iterable):
            raise MetricgradError(f"batches is a {type(batches).__name__}; give a list of batches or a DataLoader")
        if isinstance(batches, Iterator):
            raise MetricgradError("batches is a generator, used up after one pass; give a list or a DataLoader")
        self._model, self._optimizer, self._batches, self._every = model, optimizer, batches, every
        self._forward = forward or default_forward
        self._step = 0
        self._hook: Any = None
        self._scores: list[Tensor] = []
        self._moments: list[Tensor] = []
        self._targets: list[Tensor] = []
        self.steps: list[int] = []

    def __enter__(self) -> record_scores:
        self._record()
        self._hook = self._optimizer.register_step_post_hook(self._stepped)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()
        if kind is None and self.steps[-1] != self._step:
            self._record()

    @property
    def scores(self) -> Tensor:
        """All recorded scores, one recording after the other."""
        return torch.cat(self._recorded(self._scores))

    @property
    def targets(self) -> Tensor:
        """Their targets."""
        return torch.cat(self._recorded(self._targets))

    @property
    def moments(self) -> Tensor:
        """``(N,)``: after how many steps each row was recorded, which says of embeddings which can be compared."""
        return torch.cat(self._recorded(self._moments))

    @staticmethod
    def _recorded(parts: list[Tensor]) -> list[Tensor]:
        if not parts:
            raise MetricgradError("nothing was recorded; train inside `with mg.record_scores(...)`, batches not empty")
        return parts

    def _stepped(self, *_: Any) -> None:
        self._step += 1
        due = self._step & (self._step - 1) == 0 if self._every is None else self._step % self._every == 0
        if due:
            self._record()

    def _record(self) -> None:
        training = {module: module.training for module in self._model.modules()}
        self._model.eval()
        try:
            with torch.no_grad():
                for batch in self._batches:
                    scores, targets = self._forward(self._model, batch)
                    check_tensor("scores", scores)
                    check_tensor("targets", targets)
                    if not scores.ndim or scores.shape[:1] != targets.shape[:1]:
                        raise MetricgradError(
                            f"a batch of batches gives scores of shape {tuple(scores.shape)} and targets of shape "
                            f"{tuple(targets.shape)}; expected as many rows of both"
                        )
                    self._scores.append(scores.detach().cpu().clone())
                    self._targets.append(targets.detach().cpu().clone())
                    self._moments.append(torch.full((len(targets),), self._step))
        finally:
            for module, mode in training.items():
                module.training = mode
        self.steps.append(self._step)
