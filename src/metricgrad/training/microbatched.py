r"""The gradient of a loss of a large batch in the memory of a small one.

Accumulating the gradients of small batches is another loss: a metric of 8,192 rows is no mean of metrics of 64. But the
gradient of any loss in the parameters goes through the scores,

.. math:: \nabla_\theta\, L(s_1, \dots, s_k) = \sum_i J_i^\top\, \partial L / \partial s_i, \qquad
    J_i = \partial s_i / \partial \theta,

so that all scores come first, without a graph, then the loss's gradient in them, and then one chunk after the other is
scored again and its part taken backward.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metricgrad.aligners.base import Forward, default_forward
from metricgrad.aligners.isolation import Randomness, borrowed, device_of, kept_randomness
from metricgrad.aligners.lookahead.forward_mode import differs
from metricgrad.aligners.validation_batches import with_tensors
from metricgrad.errors import MetricgradError
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.calling import called


def microbatched(
    loss: Callable[..., Tensor],
    model: nn.Module,
    inputs: Any,
    targets: Tensor | None = None,
    *,
    size: int = 64,
    forward: Forward = default_forward,
    scaler: torch.amp.GradScaler | None = None,
    **context: Tensor | None,
) -> Tensor:
    """One loss of a whole batch and its exact gradient, with the graph of no more than ``size`` rows at a time.

    It stands for ``loss(model(inputs), targets, **context).backward()``: the gradients are added to ``.grad``, and the
    loss is called once, so that it counts one step. Use it where a metric needs more rows than memory holds: lists of a
    rare class, many classes, a metric of a whole set. Not for losses that are means over rows, for which plain
    accumulation is as good and does not score twice.

    Each chunk draws the same random numbers when it is scored again, so that dropout drops the same units, and buffers
    are updated once. What reads other rows inside the model reads those of its chunk alone: batch normalisation has the
    statistics of ``size`` rows, and this is said. It works inside ``torch.autocast``. Under DDP gradients are averaged
    once, with the last chunk; a LightningModule takes ``AlignLoss(microbatch=)``, for Lightning averages those of
    ``manual_backward`` alone. Inputs that come out of other parameters carry the gradient on to these.

    Args:
        loss: ours, or any loss of scores and targets, called as :mod:`metricgrad.losses.calling` says.
        model: scored in the mode it is in.
        inputs: a tensor with N rows, or dicts, tuples and lists of them; what else is in them goes to every chunk.
        targets: with N rows; None where ``forward`` finds them in the inputs.
        size: rows of a chunk.
        forward: ``forward(model, batch) -> (scores, targets)``, as for :meth:`metricgrad.Loss.attach`. A batch is
            (inputs, targets), or the inputs where there are no targets.
        scaler: its scale is on the gradients, as after ``scaler.scale(loss).backward()``.
        context: ``groups``, ``mask`` and the like, of all N rows.

    Returns:
        0-d, detached: the loss, unscaled.

    Cost: two forward passes and one backward pass, and one call of the loss; the memory of ``size`` rows, the scores of
    N, and a copy of the model's buffers.

    Raises:
        MetricgradError: where gradients are off; where there are no rows, or tensors differ in their number; where the
            model gives other scores the second time; where the loss is moved by LookAhead, which needs one graph.

    Warns:
        UserWarning: for batch normalisation in training mode.

    Example:
        >>> import torch, metricgrad as mg
        >>> model, loss = torch.nn.Linear(4, 1), mg.UniLoss("average_precision")
        >>> x, y = torch.randn(500, 4), torch.arange(500) % 10 == 0
        >>> value = mg.microbatched(loss, model, x, y, size=100)
        >>> model.weight.grad.shape, int(loss.steps)
        (torch.Size([1, 4]), 1)
    """
    checked_whole("size", size, least=1)
    if not callable(loss):
        raise MetricgradError(f"loss is {loss!r:.60}; pass a loss of scores and targets, such as mg.UniLoss(metric)")
    if not torch.is_grad_enabled():
        raise MetricgradError("gradients are off (no_grad), and microbatched calls backward(); call it outside")
    batch, ends = _cut_off(inputs if targets is None else (inputs, targets))
    chunks = list(chunks_of(batch, size))
    if len(chunks) > 1:
        warn_of_batch_norm(model, stacklevel=3)
    _check_ranks(loss, model, len(chunks))
    device = device_of(list(model.parameters()))
    starts: list[Randomness] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad(), borrowed(model), _synchronised(model, False):
        for chunk in chunks:
            starts.append(Randomness.now(device))
            pairs.append(_pair(forward(model, chunk)))
    torch.clear_autocast_cache()  # what was cast without a graph would have none
    scores, wanted = (torch.cat(part) for part in zip(*pairs, strict=True))
    scores.requires_grad_()
    value = called(loss, scores, wanted, context, class_dim=1)  # as torch's own read it
    if value.ndim:
        raise MetricgradError(
            f"the loss returned a tensor of shape {tuple(value.shape)}; expected one number, 0-d: make it with "
            "reduction='mean'"
        )
    (value if scaler is None else scaler.scale(value)).backward()
    slopes = torch.zeros_like(scores) if scores.grad is None else scores.grad
    parts = slopes.split([len(part) for part, _ in pairs])
    for number, (chunk, start, (first, _), slope) in enumerate(zip(chunks, starts, pairs, parts, strict=True)):
        with kept_randomness(device, start), _synchronised(model, number == len(chunks) - 1):
            again, _ = forward(model, chunk)
            check_again(again, first)
            again.backward(slope)
    used = [(tensor, leaf.grad) for tensor, leaf in ends if leaf.grad is not None]
    if used:
        torch.autograd.backward([tensor for tensor, _ in used], [slope for _, slope in used])
    return value.detach()


def _cut_off(batch: Any) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """The batch without the graph that made it, and its tensors that have one with what stands for each."""
    ends: list[tuple[Tensor, Tensor]] = []

    def cut(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        ends.append((tensor, tensor.detach().requires_grad_()))
        return ends[-1][1]

    return with_tensors(batch, cut), ends


def _pair(found: Any) -> tuple[Tensor, Tensor]:
    """Scores and targets of a chunk.

    Raises:
        MetricgradError: where the model, or ``forward``, gives something else.
    """
    if isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found):
        return found
    kinds = [type(part).__name__ for part in found] if isinstance(found, tuple) else [type(found).__name__]
    raise MetricgradError(
        f"the model gives {' and '.join(kinds)} for scores and targets; expected two tensors: pass forward=lambda "
        "model, batch: (scores, targets), which takes the scores out of the model's output"
    )


def rows_of(batch: Any) -> int:
    """How many rows the tensors of a batch have.

    Raises:
        MetricgradError: where they have several numbers of rows, or there is no tensor.
    """
    counts = {len(tensor) for tensor in _tensors(batch)}
    if len(counts) != 1:
        found = ", ".join(map(str, sorted(counts))) if counts else "no tensor"
        raise MetricgradError(
            f"inputs and targets have {found} rows; expected tensors of as many rows each, which are split among the "
            "chunks (a tensor of another kind: bind it in forward=)"
        )
    return counts.pop()


def chunks_of(batch: Any, size: int) -> Iterator[Any]:
    """The batch in equal parts of at most so many rows, so that none is left with one; itself where it has no rows."""
    rows = rows_of(batch)
    count = max(1, -(-rows // size))
    for part in range(count):
        yield _sliced(batch, slice(part * rows // count, (part + 1) * rows // count))


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        if tree.ndim:
            yield tree
    elif isinstance(tree, Mapping):
        yield from (tensor for part in tree.values() for tensor in _tensors(part))
    elif isinstance(tree, tuple | list):
        yield from (tensor for part in tree for tensor in _tensors(part))


def _sliced(tree: Any, rows: slice) -> Any:
    return with_tensors(tree, lambda tensor: tensor[rows] if tensor.ndim else tensor)


def warn_of_batch_norm(model: nn.Module, stacklevel: int) -> None:
    """Say that what a model gives depends on the chunks."""
    if any(isinstance(part, _BatchNorm) and part.training for part in model.modules()):
        warnings.warn(
            "the model has batch normalisation in training mode, whose statistics are those of a chunk and not of the "
            "whole batch; take a larger size, put these layers in eval mode, or use another normalisation",
            stacklevel=stacklevel + 1,
        )


def _check_ranks(loss: object, model: nn.Module, chunks: int) -> None:
    """Refuse a number of chunks that would leave a rank waiting."""
    parts = model.modules()
    talks = any(isinstance(part, nn.SyncBatchNorm) or hasattr(part, "set_requires_gradient_sync") for part in parts)
    if talks and (ranks := getattr(loss, "ranks", None)) is not None and len(set(counts := ranks.of_all(chunks))) > 1:
        raise MetricgradError(
            f"the ranks have {', '.join(map(str, counts))} chunks, and their models wait for each other in every one; "
            "give each rank as many rows"
        )


def _synchronised(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients are averaged over ranks with the last chunk alone."""
    if hasattr(model, "set_requires_gradient_sync"):  # fully_shard's
        model.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue] - a method that it adds
        return contextlib.nullcontext()
    no_sync: Any = getattr(model, "no_sync", None)
    return contextlib.nullcontext() if last or no_sync is None else no_sync()


def check_again(again: Tensor, first: Tensor) -> None:
    """Refuse scores of a second pass that have no graph or are not those of the first."""
    if not again.requires_grad:
        raise MetricgradError("the scores depend on no parameter that requires a gradient; unfreeze the model")
    if why := "another shape" if again.shape != first.shape else differs([again], [first]):
        raise MetricgradError(
            f"the model gives other scores when a chunk is scored again ({why}), and the gradient would be of others; "
            "make it depend on its inputs, parameters, buffers and torch's random state alone"
        )
