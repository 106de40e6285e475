"""Tensors of constants, made once for each device: to make one takes a kernel, to send one makes the host wait.

They are shared: nobody writes into one.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=16)
def filled(value: float, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(count,)``, all the same.

    Example:
        >>> filled(1.0, 3, torch.float32, torch.device("cpu"))
        tensor([1., 1., 1.])
    """
    with torch.inference_mode(False):
        return torch.full((count,), value, dtype=dtype, device=device)


@functools.lru_cache(maxsize=64)
def listed(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(len(numbers),)``.

    Example:
        >>> listed((-1.0, 1.0), torch.float64, torch.device("cpu"))
        tensor([-1.,  1.], dtype=torch.float64)
    """
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def counted(count: int, dtype: torch.dtype, device: torch.device, *, least: int = 0) -> Tensor:
    """``(count,)``: 0, 1, 2 and so on, but none below ``least``.

    Example:
        >>> counted(4, torch.float64, torch.device("cpu"), least=1)
        tensor([1., 1., 2., 3.], dtype=torch.float64)
    """
    return _ladder(1 << count.bit_length(), dtype, device, least)[:count]


@functools.lru_cache(maxsize=32)
def _ladder(size: int, dtype: torch.dtype, device: torch.device, least: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(size, dtype=dtype, device=device).clamp_(min=least)
