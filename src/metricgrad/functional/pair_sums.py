"""Sums of a smooth kernel over all pairs, in near-linear time and with nothing of pair size kept.

out_i = sum_j w_j k(x_i - y_j) is what every pairwise and ranking loss reads. It is a discrete convolution between two
sets of scattered points, so the weights of one side are handed over to a regular lattice, convolved with the kernel by
FFT, and interpolated at the other side. The derivative of the sum is the sum of the derivative of the kernel, and its
adjoint is the same sum with both sides reflected: x_i - y_j = (-y_j) - (-x_i). The operation is therefore closed under
differentiation, and gradients of gradients cost what the sum itself costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.kernels import REACH, SIGMOID, Kernel
from metricgrad.functional.lattice import STEP, gather, spread, stencil
from metricgrad.precision import wide, wide_dtype

Engine = Literal["auto", "exact", "grid"]

BLOCK = 2**15
"""Pairs that are computed at a time in double precision: as many as stay in a core's cache."""

_SMALL = 2**17
_HELD = 2**21
WINDOW = 2**15 * STEP
"""Range of the points of one lattice, at most."""


def pair_sum(
    x: Tensor, y: Tensor, weights: Tensor | None = None, kernel: Kernel = SIGMOID, *, engine: Engine = "auto"
) -> Tensor:
    r"""Sum a kernel of the differences over all pairs.

    .. math:: \mathrm{out}_i = \sum_j w_j \, k(x_i - y_j)

    Use it wherever a loss counts pairs softly. A softness enters by dividing ``x`` and ``y`` by it, which lets its
    gradient flow too. Not for kernels outside :mod:`metricgrad.functional.kernels`, and not for sums over only some of
    the pairs: see :func:`metricgrad.functional.dominance_sums.dominance_sum`.

    Args:
        x: ``(P,)`` floating point, any range, finite.
        y: ``(N,)``.
        weights: ``(N,)`` or, for several weightings of the same pairs, ``(K, N)``; ones by default.
        kernel: ``SIGMOID``, ``SIGMOID_SQUARED``, ``SOFTPLUS`` or a derivative of one.
        engine: ``"exact"`` visits every pair, ``"grid"`` uses the lattice, ``"auto"`` takes the exact one for up to
            131,072 pairs.

    Returns:
        ``(P,)`` or ``(K, P)`` in the dtype of ``x``; computed in float64 (float32 on MPS, which has no float64). The
        grid's error is about 1e-9 of ``sum_j |w_j|``. Differentiable in x, y and weights, any number of times.

        Cost: O(P + N + R log R) time and memory, R = range / 0.125. Where the range is beyond 4,096, gaps wider than
        40 are closed (the kernel does not change there) and what is left is taken window by window, so R never exceeds
        2^16 at a time and 320 (P + N) in all. The exact engine takes O(P N) time and a fixed block of memory.

    Raises:
        MetricgradError: where the shapes do not fit.

    Example:
        >>> import torch
        >>> pair_sum(torch.tensor([0.0, 9.0]), torch.tensor([0.0, 0.0]))
        tensor([1.0000, 1.9998])
    """
    if x.ndim != 1 or y.ndim != 1:
        raise MetricgradError(f"x and y must be 1-D, got shapes {tuple(x.shape)} and {tuple(y.shape)}; flatten them")
    if weights is None:
        weights = torch.ones_like(y)
    if weights.ndim not in (1, 2) or weights.shape[-1] != len(y):
        raise MetricgradError(f"weights must be ({len(y)},) or (K, {len(y)}) like y, got {tuple(weights.shape)}")
    if engine not in ("auto", "exact", "grid"):
        raise MetricgradError(f"engine is {engine!r}; expected 'auto', 'exact' or 'grid'")
    apply = _PairSum.apply if torch.is_grad_enabled() else _PairSum.forward  # without a graph to build, no node
    total = cast(
        Tensor,
        apply(
            wide(x),
            wide(y),
            wide(weights).reshape(weights.shape[0] if weights.ndim == 2 else 1, len(y)),
            kernel,
            engine,
        ),
    )
    return total.reshape(*weights.shape[:-1], len(x)).to(x.dtype)


class Pairs:
    r"""One kernel between the same two sets of points, summed along either: what a loss and its gradient both read.

    Up to two megabytes of values of the kernel, in the dtype of the points, are computed once and held. Beyond, one
    lattice serves both sums: what convolves from one side to the other, turned round, does so back. Where the range is
    too wide for one lattice, sums are those of :func:`pair_sum`.

    Args:
        x: ``(P,)`` floating point, detached.
        y: ``(N,)``.
        kernel: of :math:`x_i - y_j`; even, so that it is of :math:`y_j - x_i` too.
    """

    def __init__(self, x: Tensor, y: Tensor, kernel: Kernel) -> None:
        self._x, self._y, self._kernel = x, y, kernel
        self._held = self._table() if x.shape[0] * y.shape[0] * x.element_size() <= _HELD else None
        self._lattice = None
        if self._held is None and _range(x, y) <= WINDOW:
            self._lattice = Lattice(wide(x), wide(y))

    def _table(self) -> Tensor:
        """``(P, N)`` values, computed block by block."""
        count, width = self._x.shape[0], self._y.shape[0]
        block = 8 * BLOCK // self._x.element_size()
        if count * width <= block:
            return self._kernel(self._x[:, None] - self._y)
        table = self._x.new_empty(count, width)
        rows = max(1, block // max(1, width))
        for x, out in zip(self._x.split(rows), table.split(rows), strict=True):
            out.copy_(self._kernel(x[:, None] - self._y))
        return table

    def over_y(self) -> Tensor:
        """``(P,)``: the sum over all y at each x."""
        if self._held is not None:
            return self._held.sum(1)
        if self._lattice is None:
            return pair_sum(self._x, self._y, kernel=self._kernel)
        ones = torch.ones_like(self._y, dtype=wide_dtype(self._y.device))[None]
        return self._lattice.at_x(self._lattice.of_y(ones), self._kernel)[0]

    def over_x(self, weights: Tensor) -> Tensor:
        """``(N,)``: the weighted sum over all x at each y."""
        if self._held is not None:
            return torch.mv(self._held.T, weights.to(self._held))
        if self._lattice is None:
            return pair_sum(self._y, self._x, weights, self._kernel)
        return self._lattice.at_y(self._lattice.of_x(wide(weights)[None]), self._kernel)[0]


class _PairSum(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, y: Tensor, weights: Tensor, kernel: Kernel, engine: Engine) -> Tensor:
        if len(x) == 0 or len(y) == 0:
            return weights.new_zeros(len(weights), len(x))
        if engine == "exact" or (engine == "auto" and len(x) * len(y) <= _SMALL):
            return _exact(x, y, weights, kernel)
        return _grid(x, y, weights, kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.kernel, ctx.engine = inputs[3:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, y, weights = ctx.saved_tensors
        wants_x, wants_y, wants_weights = ctx.needs_input_grad[:3]
        apply = cast(Callable[..., Tensor], _PairSum.apply)
        slope, engine = ctx.kernel.derivative(), ctx.engine
        return (
            (grad * apply(x, y, weights, slope, engine)).sum(0) if wants_x else None,
            -(weights * apply(-y, -x, grad, slope, engine)).sum(0) if wants_y else None,
            apply(-y, -x, grad, ctx.kernel, engine) if wants_weights else None,
            None,
            None,
        )


def _exact(x: Tensor, y: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    """Every pair, one block of rows and columns at a time."""
    columns = min(len(y), BLOCK)
    result = weights.new_zeros(len(weights), len(x))
    for rows, out in zip(x.split(BLOCK // columns), result.split(BLOCK // columns, 1), strict=True):
        for cols, w in zip(y.split(columns), weights.split(columns, 1), strict=True):
            out += w @ kernel(rows[None, :] - cols[:, None])
    return result


def _grid(x: Tensor, y: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    wide = _range(x, y)
    if wide <= WINDOW:
        return _convolve(x, y, weights, kernel)
    if not math.isfinite(wide):
        return _exact(x, y, weights, kernel)
    (x, moved_x), (y, moved_y) = close_gaps(x, y)
    x_order, y_order = x.argsort(), y.argsort()
    total = _windows(x[x_order], y[y_order], weights[:, y_order], kernel)
    if kernel.slope:
        # closing a gap took moved_x - moved_y off the straight part of each pair with y < x
        below = torch.searchsorted(y[y_order], x[x_order])
        w = weights[:, y_order]
        lost = moved_x[x_order] * _running_sum(w)[:, below] - _running_sum(w * moved_y[y_order])[:, below]
        total = total + kernel.slope * lost
    return torch.empty_like(total).index_copy_(1, x_order, total)


def close_gaps(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Shrink every empty stretch wider than REACH to REACH: each side's new points, and how far they moved."""
    points, order = torch.cat([x, y]).sort()
    # halves, so that no gap between finite points overflows
    gaps = (points / 2).diff(prepend=points[:1] / 2)
    kept = (2 * gaps.clamp(max=REACH / 2)).cumsum(0)
    closed = torch.empty_like(kept).index_copy_(0, order, kept)
    excess = torch.empty_like(kept).index_copy_(0, order, (2 * (gaps - REACH / 2).clamp(min=0)).cumsum(0))
    (new_x, new_y), (moved_x, moved_y) = (side.split([len(x), len(y)]) for side in (closed, excess))
    return (new_x, moved_x), (new_y, moved_y)


def _windows(x: Tensor, y: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    """Sorted points of any range: near pairs window by window, far pairs by the kernel's limits."""
    mass, moment = _running_sum(weights), _running_sum(weights * y)
    _, counts = torch.unique_consecutive(((x - x[0]) / WINDOW).floor(), return_counts=True)
    parts = []
    for part in x.split(counts.tolist()):
        ends = torch.stack([part[0] - REACH, part[-1] + REACH])
        low, high = torch.searchsorted(y, ends).tolist()
        near_y, near_weights = y[low:high], weights[:, low:high]
        far_below = kernel.upper * mass[:, [low]] + kernel.slope * (part * mass[:, [low]] - moment[:, [low]])
        total = far_below + kernel.lower * (mass[:, [-1]] - mass[:, [high]])
        if low < high:
            small = len(part) * len(near_y) <= _SMALL
            total = total + (_exact if small else _convolve)(part, near_y, near_weights, kernel)
        parts.append(total)
    return torch.cat(parts, 1)


def _range(x: Tensor, y: Tensor) -> float:
    """From the lowest of all points to the highest; NaN or infinite where one of them is."""
    return float(torch.maximum(x.amax(), y.amax()) - torch.minimum(x.amin(), y.amin()))


def _convolve(x: Tensor, y: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    lattice = Lattice(x, y)
    return lattice.at_x(lattice.of_y(weights), kernel)


class Lattice:
    """Two sides of points on one lattice: weights of one are spread, convolved with a kernel, and read at the other.

    Only the lags between the two sides are sampled, and none wraps around. What is spread once, and a kernel that was
    sampled, serve all sums.

    Args:
        x: ``(P,)`` float64 within :data:`WINDOW` of all others; or ``(K, P)``, K sets of points, each with its own y.
        y: ``(N,)``, or ``(K, N)``.

    Cost: O(K (P + N) + K R log R) time and memory of each sum, R = range / 0.125.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._at_x, self._at_y = stencil(x), stencil(y)
        self._size = _fast_size(self._at_x.nodes + self._at_y.nodes - 1)
        self._sampled: dict[Kernel, Tensor] = {}

    def of_x(self, weights: Tensor) -> Tensor:
        """``(K, F)`` from ``(K, P)`` weights of x: their spectrum."""
        return torch.fft.rfft(spread(self._at_x, weights), self._size)

    def of_y(self, weights: Tensor) -> Tensor:
        """``(K, F)`` from ``(K, N)`` weights of y."""
        return torch.fft.rfft(spread(self._at_y, weights), self._size)

    def at_x(self, of_y: Tensor, kernel: Kernel) -> Tensor:
        """``(K, P)`` from the spectrum of weights of y: sums of the kernel of x - y."""
        return gather(self._at_x, torch.fft.irfft(of_y * self._spectrum(kernel), self._size))

    def at_y(self, of_x: Tensor, kernel: Kernel) -> Tensor:
        """``(K, N)`` from the spectrum of weights of x: the same kernel, not turned round."""
        return gather(self._at_y, torch.fft.irfft(of_x * self._spectrum(kernel).conj(), self._size))

    def _spectrum(self, kernel: Kernel) -> Tensor:
        if kernel not in self._sampled:
            at_x, at_y = self._at_x, self._at_y
            lags = torch.arange(1 - at_y.nodes, at_x.nodes, device=at_x.left.device) + (at_x.first - at_y.first)
            sampled = kernel(lags.to(at_x.weights) * STEP)
            nothing = sampled.new_zeros(self._size - len(lags))
            whole = torch.cat([sampled[at_y.nodes - 1 :], nothing, sampled[: at_y.nodes - 1]])
            self._sampled[kernel] = torch.fft.rfft(whole)
        return self._sampled[kernel]


def _running_sum(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values.cumsum(1), (1, 0))


def _fast_size(n: int) -> int:
    """The smallest 2^a, 3 2^a or 5 2^a that is at least n: lengths that every FFT library is quick at."""
    power = 1 << max(n - 1, 1).bit_length()
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= n)
