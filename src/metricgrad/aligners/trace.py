"""What is kept of a gradient as the backward pass left it: a few numbers, which tell how it was changed since."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_PLACES = 512
_FEW = 4096
_ROUGHLY = 1e-3


@dataclass(frozen=True)
class Trace:
    """A copy of a small gradient; of a large one its squared norm, its largest entry and some entries at fixed places.

    A copy of all would take as much memory as the model. A change is seen where it moves the norm in its last digit or
    an entry that is kept; what kind of change it was is read off the entries, and must agree with the norm.

    Attributes:
        entries: ``(K,)``, all or some.
        squared: 0-d, the squared norm of a large gradient; that of the same entries is the same to the last digit.
        largest: 0-d, of absolute values of a large one.
    """

    entries: Tensor
    squared: Tensor | None = None
    largest: Tensor | None = None

    @classmethod
    def of(cls, gradient: Tensor) -> Trace:
        """Of a gradient as it is."""
        flat = gradient.detach().reshape(-1)
        if len(flat) <= _FEW:
            return cls(flat.clone())
        low, high = torch.aminmax(flat)
        return cls(_some(flat), _squared(flat), torch.maximum(-low, high))

    @property
    def norm(self) -> float:
        """Of all entries."""
        return float(_squared(self.entries) if self.squared is None else self.squared) ** 0.5

    def is_of(self, gradient: Tensor) -> bool:
        """Whether the gradient was left as it was, NaN included."""
        flat = gradient.reshape(-1)
        if self.squared is None:
            return _same(self.entries, flat)
        return _same(self.entries, _some(flat)) and _same(self.squared, _squared(flat))

    def factor_to(self, gradient: Tensor) -> float | None:
        """What the gradient was multiplied by since, or None where that is not what was done."""
        flat = gradient.reshape(-1)
        entries = flat if self.squared is None else _some(flat)
        whole = _ratio(float(flat.double().norm()), self.norm)
        known = float(self.entries.double().norm())
        if not known:
            return None if bool(entries.any()) else whole
        factor = float(entries.double().norm()) / known
        rest = float((entries - self.entries * factor).abs().max())
        scaled = rest <= 64 * torch.finfo(flat.dtype).eps * float(entries.abs().max()) and not _same(
            entries, self.entries
        )
        return factor if scaled and abs(whole - factor) <= _ROUGHLY * factor else None

    def was_clamped(self, gradient: Tensor, bound: float) -> bool:
        """Whether the gradient can be what it was, clamped to so much on either side."""
        flat = gradient.reshape(-1)
        if self.squared is None:
            return _same(flat, self.entries.clamp(-bound, bound))
        assert self.largest is not None
        before, now = float(self.squared), float(_squared(flat))
        most = float(self.largest) ** 2 - bound**2  # the largest entry lost this much, and no other more
        slack = _ROUGHLY * before
        lost = most - slack <= before - now <= int((flat.abs() >= bound).sum()) * most + slack
        return _same(_some(flat), self.entries.clamp(-bound, bound)) and most > 0 and lost


def _some(flat: Tensor) -> Tensor:
    return flat[:: len(flat) // _PLACES].clone()


def _squared(flat: Tensor) -> Tensor:
    wide = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
    return torch.dot(wide, wide)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0
