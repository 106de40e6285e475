"""Ways to spoil a file: bytes, JSON values, tensors. Everything follows from the generator that is passed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**9, 10**30, -(10**30), 0.5, -2.5, 1e308, float("nan"), float("inf"), "", "f1",
    "trap:fn", "sklearn.metrics:f1_score:average=macro", "os:system", "interpolated", "\x00", "x" * 5000, [], {}, [[]],
    [None], ["interpolated", {}], {"metric": "trap:fn"}, DEEP, [1, 2, 3], {"a": 1}, "recall_at_k:k=-1", "f1:beta=[[[",
]  # fmt: skip


def spoil_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, doubled or replaced."""
    kind = rng.randrange(7)
    place = rng.randrange(max(1, len(raw)))
    if kind == 0:
        return raw[:place]
    if kind == 1:
        changed = bytearray(raw)
        for _ in range(rng.choice([1, 1, 3, 20])):
            if changed:
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 2:
        end = min(len(raw), place + rng.randrange(1, 64))
        return raw[:place] + bytes(rng.choice([0, 255]) for _ in range(end - place)) + raw[end:]
    if kind == 3:
        return raw[:place] + rng.randbytes(rng.randrange(1, 40)) + raw[place:]
    if kind == 4:
        return raw[:place] + raw[min(len(raw), place + rng.randrange(1, 40)) :]
    if kind == 5:
        return rng.choice([b"", b"\x00", b"null", b"{}", b"[]", b"PK\x03\x04", b"\x80\x02c", rng.randbytes(200)])
    return raw[: rng.randrange(1, min(len(raw), 64) + 1) if raw else 0] + raw


def spoil_json(value: Any, rng: random.Random) -> Any:
    """A copy with one node replaced, removed, renamed or added."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[key + rng.choice(["", "_", "x"]) if rng.random() < 0.5 else "unknown"] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == 3 and isinstance(holder[key], int | float):
        holder[key] = rng.choice([-holder[key], holder[key] * 10**9, str(holder[key]), [holder[key]]])
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def dumped(value: Any, rng: random.Random) -> str:
    """As JSON, now and then with a key said twice or with deep nesting that no parser likes."""
    text = json.dumps(value)
    chance = rng.random()
    if chance < 0.03 and text.startswith("{") and len(text) > 2:
        return '{"format": 1, "form": 2, "loss": "x", ' + text[1:]
    if chance < 0.05:
        return "[" * 100_000
    return text


def spoil_tensors(tensors: dict[str, Tensor], rng: random.Random) -> dict[str, Tensor]:
    """A copy with one tensor changed, removed or added."""
    found = {name: value.clone() for name, value in tensors.items()}
    if not found or rng.random() < 0.05:
        found["unknown"] = torch.zeros(3)
        return found
    name = rng.choice(sorted(found))
    value = found[name]
    changes: list[Callable[[], Tensor | None]] = [
        lambda: None,
        lambda: torch.full_like(value.float(), float("nan")).to(value.dtype) if value.is_floating_point() else ~value,
        lambda: _one(value, float("nan") if value.is_floating_point() else -5, rng),
        lambda: _one(value, float("inf") if value.is_floating_point() else 2**62, rng),
        lambda: value.reshape(-1)[:-1],
        lambda: torch.cat([value.reshape(-1), value.reshape(-1)]),
        lambda: value[None],
        lambda: torch.zeros(0),
        lambda: torch.zeros(3, 4),
        lambda: value.to(rng.choice([torch.int64, torch.float64, torch.bool, torch.uint8, torch.float16, torch.int32])),
        lambda: value.double() * 1e300 if value.is_floating_point() else value + 1_000_000,
        lambda: value.float().to(torch.complex64),
    ]
    changed = rng.choice(changes)()
    if changed is None:
        del found[name]
    else:
        found[name] = changed.contiguous()
    return found


def _one(value: Tensor, number: float, rng: random.Random) -> Tensor:
    flat = value.clone().reshape(-1)
    if len(flat):
        flat[rng.randrange(len(flat))] = number if value.dtype != torch.bool else True
    return flat.reshape(value.shape)


def _places(value: Any) -> Any:
    """Every (container, key) in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
