"""A module that scores a batch chunk by chunk in a training loop of somebody else's, who calls ``backward()`` himself.

:func:`metricgrad.microbatched` stands for a line of one's own loop. A trainer has that line inside; so here a module's
``forward`` scores each chunk under ``torch.utils.checkpoint``, which keeps the scores and scores the chunk again when
``backward()`` comes to it. The gradient is that of the whole batch, in the memory of the chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from metricgrad.aligners.isolation import (
    Autocast,
    Randomness,
    again,
    borrowed,
    buffer_places,
    device_of,
    kept_randomness,
    standing,
)
from metricgrad.errors import MetricgradError
from metricgrad.handle import Handle
from metricgrad.losses.batches import checked_whole
from metricgrad.training.microbatched import check_again, chunks_of, rows_of, warn_of_batch_norm


class ChunkedForward:
    """Stands for a module's ``forward``: the scores of a batch, with the graph of ``size`` rows at a time.

    In eval mode without gradients, and for batches of ``size`` rows or fewer, it is that ``forward``. Otherwise each
    chunk draws the same random numbers when it is scored again, and buffers are updated once, by the first pass. Where
    AdaLFL repeats a pass without gradients, it is chunk by chunk as well.

    Args:
        model: the module.
        size: rows of a chunk.
        read: the scores in what ``forward`` gives.

    Attributes:
        calls: how many batches with gradients went through.

    Raises:
        MetricgradError: in a call, where tensors differ in their number of rows, where ``forward`` gives no scores of
            as many rows, and in ``backward()``, where the model gives other scores the second time.
    """

    def __init__(self, model: nn.Module, size: int, read: Callable[[Any], Any]) -> None:
        checked_whole("microbatch", size, least=1)
        self.model, self.forward, self.size, self.read, self.calls = model, model.forward, size, read, 0
        self._told = False
        functools.update_wrapper(self, self.forward)  # trainers look at its arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What ``forward`` would give, or the scores alone."""
        with_gradients = torch.is_grad_enabled()
        if not with_gradients and not self.model.training:
            return self.forward(*args, **kwargs)
        self.calls += with_gradients
        chunks = list(chunks_of((args, kwargs), self.size))
        if len(chunks) == 1:
            return self.forward(*args, **kwargs)
        if not self._told:
            self._told = True
            warn_of_batch_norm(self.model, stacklevel=5)
        return torch.cat([self._scored(*chunk) if with_gradients else self._scores(*chunk) for chunk in chunks])

    def _scored(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        device = device_of(list(self.model.parameters()))
        buffers, start, autocast = buffer_places(self.model), Randomness.now(device), Autocast.now(device)
        first: list[Tensor] = []

        def run() -> Tensor:
            if not first:
                scores = self._scores(args, kwargs)
                first.append(scores.detach())
                return scores
            with kept_randomness(device, start), borrowed(self.model), standing(again(buffers)), autocast.again():
                scores = self._scores(args, kwargs)
            check_again(scores, first[0])
            return scores

        with set_checkpoint_early_stop(False):  # the scores of the second pass are compared
            return checkpoint(run, use_reentrant=False, preserve_rng_state=False)

    def _scores(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        scores = self.read(self.forward(*args, **kwargs))
        rows = rows_of((args, kwargs))
        if not isinstance(scores, Tensor) or not scores.ndim or len(scores) != rows:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise MetricgradError(
                f"the forward of {type(self.model).__name__} gives {found} for {rows} rows; microbatch= expects a "
                "tensor of scores with as many: name the part that makes them as model="
            )
        return scores


def in_chunks(
    model: nn.Module, size: int, read: Callable[[Any], Any] = lambda found: found
) -> tuple[ChunkedForward, Handle]:
    """Have a module score chunks of ``size`` rows until the handle is detached; see :class:`ChunkedForward`."""
    chunked, own = ChunkedForward(model, size, read), "forward" in model.__dict__

    def remove() -> None:
        if own:
            model.forward = chunked.forward
        else:
            del model.__dict__["forward"]

    model.forward = chunked
    return chunked, Handle(remove)
