"""Scores projected on the permutahedron, the convex hull of all orders of 1, ..., n, and the ranks that this gives.

Scores, spread out as ranks are, are projected on it: scores far enough apart land on a corner, which is their hard
ranks, and scores close together share a face. A face is a block of neighbours (:mod:`metricgrad.functional.isotonic`,
and on a device :mod:`metricgrad.functional.hull`); once the blocks are known, a rank is the block's mean rank plus what
the score differs from the block's mean. Gradients are taken of that expression, any number of times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.hull import log_ratio_corners, mean_corners
from metricgrad.functional.isotonic import Floats, log_ratio_starts, mean_starts
from metricgrad.precision import wide

_FAR = 1e9
_NOT_FINITE = "x is not finite, or its spread is not; leave such entries out"


def equal_runs(changes: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place of each item's run of equals, from ``(..., n - 1)`` flags of a change; n > 0."""
    place = torch.arange(changes.shape[-1] + 1, device=changes.device)
    edge = changes.new_ones((*changes.shape[:-1], 1))
    first = torch.where(torch.cat([edge, changes], -1), place, 0).cummax(-1).values
    end = torch.where(torch.cat([changes, edge], -1), place, len(place))
    return first, end.flip(-1).cummin(-1).values.flip(-1)


class _Faces(NamedTuple):
    """Where scores were projected: for each of N = B n sorted scores, or for each block of them.

    Attributes:
        order: ``(N,)`` the flat place of each sorted score, row by row.
        z: ``(N,)`` sorted, standardised, times kappa / strength; 0 in a row that does not vary.
        factor: ``(B, 1)`` kappa / strength; 0 for a row that does not vary.
        slope: ``(B, 1)`` d z / d x with the standardisation held fixed.
        starts: ``(K,)`` the first sorted score of each block.
        size: ``(K,)``.
        middle: ``(K,)`` the mean of the places in a block.
    """

    order: NDArray[np.intp]
    z: Floats
    factor: Floats
    slope: Floats
    starts: NDArray[np.intp]
    size: NDArray[np.intp]
    middle: Floats

    def sums(self, values: Floats) -> Floats:
        """``(K,)`` over each block."""
        return np.add.reduceat(values, self.starts)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """``(N,)`` each entry its block's value."""
        return values.repeat(self.size)

    def rows(self) -> tuple[Tensor, Tensor]:
        """``(B, n)`` the place of each sorted score in its row, and whether a block starts at it."""
        rows = len(self.factor)
        starts = np.zeros(len(self.z), dtype=bool)
        starts[self.starts] = True
        places = self.order.reshape(rows, -1) % max(1, len(self.z) // rows)
        return torch.from_numpy(places), torch.from_numpy(starts.reshape(rows, -1))

    def unsorted(self, values: NDArray[Any]) -> NDArray[Any]:
        """``(N,)`` back in the order of x."""
        result = np.empty_like(values)
        result[self.order] = values
        return result


def on_host(x: Tensor, strength: float, quadratic: bool) -> Tensor:
    """Soft ranks of ``(..., n)`` x on the CPU, by the time of a sort."""
    apply = cast(Callable[..., Tensor], _SoftRank.apply)
    return apply(x, strength, quadratic)


class _SoftRank(torch.autograd.Function):
    """``(..., n)`` soft ranks. Forward and context in one: with a separate one a call costs half as much again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float, quadratic: bool) -> Tensor:
        values = x.detach().double().numpy().reshape(-1, x.shape[-1])
        with np.errstate(invalid="ignore", over="ignore"):
            faces = _project(values, strength, quadratic)
        sorted_ranks = _quadratic_ranks(faces) if quadratic else _entropic_ranks(faces)
        ctx.save_for_backward(x)
        ctx.quadratic, ctx.strength, ctx.faces = quadratic, strength, faces
        return torch.from_numpy(faces.unsorted(sorted_ranks)).view(x.shape).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            # the gradient is to be differentiated: take it of the ranks written in torch, of which it is the same
            with torch.enable_grad():
                order, starts = ctx.faces.rows()
                z = _standardised(wide(x).gather(-1, order.view(x.shape)), ctx.strength, ctx.quadratic)
                ranks = _ranked(z, order.view(x.shape), starts.view(x.shape), ctx.quadratic).to(x.dtype)
                (grad,) = torch.autograd.grad(ranks, x, grads[0], create_graph=True)
            return grad, None, None
        faces: _Faces = ctx.faces
        grad = grads[0].detach().double().numpy().ravel()[faces.order]
        if ctx.quadratic:
            to_z = grad - faces.spread(faces.sums(grad) / faces.size)
        else:
            ranks = _entropic_ranks(faces)
            pull = grad * ranks
            to_z = pull - ranks * faces.spread(faces.sums(pull) / (faces.middle * faces.size))
        rows = (len(faces.factor), -1)
        to_z, z = to_z.reshape(rows), faces.z.reshape(rows)
        # z keeps its sum of squares whatever x does, so what would change it has no effect
        norm = (z * z).sum(1, keepdims=True)
        along = (to_z * z).sum(1, keepdims=True) / np.where(norm > 0, norm, 1.0)
        result = faces.unsorted((faces.slope * (to_z - along * z)).ravel())
        return torch.from_numpy(result).view(x.shape).to(x.dtype), None, None


def _project(x: Floats, strength: float, quadratic: bool) -> _Faces:
    """The blocks of ``(B, n)`` finite scores."""
    rows, n = x.shape
    order = x.argsort(1)
    if rows > 1:
        order += np.arange(0, x.size, n)[:, None]
    order = order.ravel()
    z = x.ravel()[order].reshape(rows, n)
    varies = z[:, :1] < z[:, -1:]  # before rounding makes a spread of the mean's error
    # of the size 1, so that no square of a large or small spread is lost
    size = np.abs(z).max(1, keepdims=True)
    size = np.where(np.isfinite(size) & (size > 0), np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0)))), 1.0)
    z /= size
    z -= z.sum(1, keepdims=True) / n
    variance = (z * z).sum(1, keepdims=True) / n
    if not math.isfinite(variance.sum()):
        raise MetricgradError(_NOT_FINITE)
    places = np.arange(1.0, n + 1)
    kappa = _kappa(n, quadratic)
    varies &= variance > 0
    factor = np.where(varies, kappa / strength, 0.0)
    z *= factor / np.sqrt(np.where(varies, variance, 1.0))
    slope = factor / np.sqrt(np.where(varies, variance, 1.0)) / size
    # no block spans a gap wider than n; wide ones would only take precision from the rest
    near = z if kappa * n < _FAR * strength else np.minimum(np.diff(z, prepend=z[:, :1]), n).cumsum(1)
    if quadratic:
        starts = mean_starts((near - (places - (n + 1) / 2)).ravel(), n)
    else:
        starts = log_ratio_starts(near.ravel(), np.tile(places, rows), n)
    size = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=size[:-1])
    size[-1] = z.size - starts[-1]
    return _Faces(order, z.ravel(), factor, slope, starts, size, starts % n + (size + 1) / 2)


def _quadratic_ranks(faces: _Faces) -> Floats:
    # relative to the block's first, so that equal scores have exactly equal ranks however large z is
    z = faces.z - faces.spread(faces.z[faces.starts])
    return z + faces.spread(faces.middle - faces.sums(z) / faces.size)


def _entropic_ranks(faces: _Faces) -> Floats:
    share = np.exp(faces.z - faces.spread(faces.z[faces.starts + faces.size - 1]))
    return share * faces.spread(faces.middle * faces.size / faces.sums(share))


def on_device(x: Tensor, strength: float, quadratic: bool) -> Tensor:
    """Soft ranks where x lies, without a copy on the host, which waits once: for whether x is finite."""
    values, n = wide(x), x.shape[-1]
    order = values.detach().argsort(-1)
    z = _standardised(values.gather(-1, order), strength, quadratic)
    near, places = z.detach(), torch.arange(1, n + 1, device=z.device, dtype=z.dtype)
    if not bool(near.isfinite().all()):
        raise MetricgradError(_NOT_FINITE)
    if _kappa(n, quadratic) * n >= _FAR * strength:
        near = near.diff(dim=-1, prepend=near[..., :1]).clamp(max=n).cumsum(-1)
    starts = mean_corners(near - (places - (n + 1) / 2)) if quadratic else log_ratio_corners(near, places)
    return _ranked(z, order, starts, quadratic).to(x.dtype)


def _standardised(x: Tensor, strength: float, quadratic: bool) -> Tensor:
    """``(..., n)`` sorted x as z, differentiable any number of times; 0 in a row that does not vary."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    centred = x / torch.where(largest > 0, largest, 1)
    centred = centred - centred.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    varies = (x[..., :1] != x[..., -1:]) & (variance.detach() != 0)
    spread = torch.where(varies, variance, 1).rsqrt() * (_kappa(x.shape[-1], quadratic) / strength)
    return torch.where(varies, centred * spread, 0)


def _ranked(z: Tensor, order: Tensor, starts: Tensor, quadratic: bool) -> Tensor:
    """The ranks of ``(..., n)`` sorted z whose blocks are given, in the order of what was sorted."""
    first, last = equal_runs(starts[..., 1:])
    middle, size = (first + last + 2).to(z) / 2, (last - first + 1).to(z)

    def sums(values: Tensor) -> Tensor:
        return torch.zeros_like(values).scatter_add(-1, first, values).gather(-1, first)

    if quadratic:
        z = z - z.detach().gather(-1, first)
        ranks = z + (middle - sums(z) / size)
    else:
        share = (z - z.detach().gather(-1, last)).exp()
        ranks = share * (middle * size / sums(share))
    return torch.zeros_like(ranks).scatter(-1, order, ranks)


def _kappa(n: int, quadratic: bool) -> float:
    """The spread of the ranks that z has at strength 1."""
    return math.sqrt((n * n - 1) / 12) if quadratic else float(np.log(np.arange(1.0, n + 1)).std())
