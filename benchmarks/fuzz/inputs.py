"""What is handed to calls: batches of every shape, dtype, size and container, sound or not, with what comes along."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Options = Mapping[Any, float]


@dataclass
class Batch:
    """Scores, targets and context; ``kind`` and ``traits`` say how they were made."""

    kind: str
    scores: Any
    targets: Any
    context: dict[str, Any]
    #: What is not ordinary about it; empty for a batch that a loss or metric of its kind must take.
    traits: list[str] = field(default_factory=list)

    @property
    def ordinary(self) -> bool:
        """Whether nothing about it may be refused by what reads its kind."""
        return not self.traits


class Draws:
    """All random choices of one call, and whether what was handed over is still as it was."""

    def __init__(self, entry: str, number: int) -> None:
        self.random = random.Random(f"{entry} {number}")
        self.generator = torch.Generator().manual_seed(self.random.getrandbits(40))
        #: The seed that the global random state had when the call began.
        self.settled = number
        self.said: dict[str, Any] = {}
        self._handed: list[tuple[Any, Any]] = []

    def pick(self, name: str, choices: Options | list[Any]) -> Any:
        """One of the choices, by weight where they have one; kept for the report under this name."""
        options = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, 1.0)
        found = self.random.choices(list(options), list(options.values()))[0]
        self.said[name] = found
        return found

    def chance(self, share: float) -> bool:
        """Whether something that rarely happens happens."""
        return self.random.random() < share

    def some(self, options: Mapping[str, list[Any]], share: float) -> dict[str, Any]:
        """Each of the options with this probability, at one of its values."""
        found = {name: self.random.choice(values) for name, values in options.items() if self.chance(share)}
        self.said.update(found)
        return found

    def handed(self, value: Any) -> Any:
        """Remember a tensor or array that no call may change."""
        looked_at = not value.is_meta and not value.is_sparse if isinstance(value, Tensor) else hasattr(value, "shape")
        if looked_at:
            self._handed.append((value, value.detach().clone() if isinstance(value, Tensor) else copy.copy(value)))
        return value

    def changed(self) -> bool:
        """Whether anything handed over is no longer what it was."""
        return any(not _same(value, before) for value, before in self._handed)

    def batch(
        self,
        kinds: Options | list[str] | None = None,
        *,
        trouble: float = 0.35,
        context: bool = True,
        sizes: tuple[int, ...] = (3, 6, 8, 12, 24, 60),
    ) -> Batch:
        """One batch; with probability ``trouble`` something about it is out of the ordinary.

        Args:
            kinds: which layouts, by weight; all by default.
            trouble: the probability of each of a few kinds of trouble is a part of this.
            context: whether masks, weights, groups or head sizes may come along.
            sizes: of a batch that has no trouble of being small.
        """
        kind = self.pick("kind", kinds or KINDS)
        few = self.chance(trouble / 4)
        n = self.pick("rows", [0, 1, 2]) if few else self.pick("rows", list(sizes))
        scores, targets = KINDS_OF[kind](n, self.generator)
        batch = Batch(kind, scores, targets, {}, ["few rows"] if few else [])
        for change, share in CHANGES.items():
            if self.chance(trouble * share):
                change(self, batch)
        if context and self.chance(0.35):
            _come_along(self, batch, trouble)
        for value in (batch.scores, batch.targets, *batch.context.values()):
            self.handed(value)
        self.said["traits"] = batch.traits
        return batch


def _same(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not isinstance(a, Tensor):
        return a.tobytes() == b.tobytes()
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def _whole(generator: torch.Generator, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=generator)


Maker = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
KINDS_OF: dict[str, Maker] = {
    "one score": lambda n, g: (_normal(g, n), _whole(g, 2, n)),
    "one column": lambda n, g: (_normal(g, n, 1), _whole(g, 2, n)),
    "classes": lambda n, g: (_normal(g, n, 4), _whole(g, 4, n)),
    "two classes": lambda n, g: (_normal(g, n, 2), _whole(g, 2, n)),
    "labels": lambda n, g: (_normal(g, n, 4), _whole(g, 2, n, 4)),
    "steps": lambda n, g: (_normal(g, n, 3, 4), _whole(g, 4, n, 3)),
    "images": lambda n, g: (_normal(g, n, 3, 4), _whole(g, 2, n, 3, 4)),
    "values": lambda n, g: (_normal(g, n), _normal(g, n)),
    "gains": lambda n, g: (_normal(g, n), _whole(g, 4, n)),
    "gains of queries": lambda n, g: (_normal(g, n, 5), _whole(g, 4, n, 5)),
    "embeddings": lambda n, g: (_normal(g, n, 6), 20 * _whole(g, 3, n)),
    "heat maps": lambda n, g: (_normal(g, n, 5, 6), _whole(g, 5, n, 2)),
    "answer spans": lambda n, g: (_normal(g, n, 2, 6), _whole(g, 6, n, 2).sort(1).values),
    "four axes": lambda n, g: (_normal(g, n, 2, 2, 3), _whole(g, 3, n, 2, 2)),
    "none": lambda n, g: (_normal(g), _whole(g, 2)),
    "unequal": lambda n, g: (_normal(g, n, 4), _whole(g, 4, n + 1)),
}
KINDS: Options = {name: 0.3 if name in ("four axes", "none", "unequal") else 1.0 for name in KINDS_OF}


def _sizes(draws: Draws, batch: Batch) -> None:
    how = draws.pick("scores", list(SIZES))
    batch.scores = SIZES[how](batch.scores)
    batch.traits.append(f"scores: {how}")


def _one(number: float) -> Callable[[Tensor], Tensor]:
    def put(scores: Tensor) -> Tensor:
        flat = scores.reshape(-1).clone()
        flat[len(flat) // 2 : len(flat) // 2 + 1] = number
        return flat.reshape(scores.shape)

    return put


SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "tied": lambda s: s.round(),
    "all alike": torch.zeros_like,
    "sure": lambda s: 100 * s.sign() + s,
    "times 300": lambda s: 300 * s,
    "1e8": lambda s: 1e8 * s,
    "1e20": lambda s: 1e20 * s,
    "3e38": lambda s: 3e38 * s.sign(),
    "1e38": lambda s: (1e38 * s).clamp(-3e38, 3e38),
    "1e-30": lambda s: 1e-30 * s,
    "probabilities": torch.sigmoid,
    "NaN": _one(float("nan")),
    "infinity": _one(float("inf")),
    "all NaN": lambda s: s * float("nan"),
}


def _other_targets(draws: Draws, batch: Batch) -> None:
    how = draws.pick("targets", list(TARGETS))
    batch.targets = TARGETS[how](batch.targets)
    batch.traits.append(f"targets: {how}")


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "all 0": torch.zeros_like,
    "all 1": torch.ones_like,
    "beyond": lambda t: t + 7,
    "negative": lambda t: t - 1,
    "fractions": lambda t: t + 0.5,
    "NaN": lambda t: _one(float("nan"))(t.float()),
    "infinity": lambda t: _one(float("inf"))(t.float()),
    "huge": lambda t: t * 10**15,
    "float": lambda t: t.float(),
    "int32": lambda t: t.int(),
    "bool": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
    "a column": lambda t: t[..., None],
    "shorter": lambda t: t[:-1] if t.ndim else t,
}


def _dtype(draws: Draws, batch: Batch) -> None:
    dtypes = {
        torch.float64: 4, torch.float16: 3, torch.bfloat16: 3, torch.int64: 1, torch.bool: 0.5, torch.complex64: 0.5,
    }  # fmt: skip
    batch.scores = batch.scores.to(draws.pick("dtype", dtypes))
    batch.traits.append(f"dtype: {batch.scores.dtype}")


def _container(draws: Draws, batch: Batch) -> None:
    how = draws.pick("container", list(CONTAINERS))
    which = draws.pick("of", ["scores", "targets"])
    try:
        setattr(batch, which, CONTAINERS[how](getattr(batch, which)))
    except TypeError:  # bfloat16 has no array
        return
    batch.traits.append(f"{which}: {how}")


def _strided(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], -1)[..., 0]


CONTAINERS: dict[str, Callable[[Tensor], Any]] = {
    "a list": lambda t: t.tolist(),
    "an array": lambda t: t.numpy(),
    "None": lambda t: None,
    "text": lambda t: ["cat"] * max(1, len(t) if t.ndim else 1),
    "a number": lambda t: 0.5,
    "meta": lambda t: t.to("meta"),
    "strided": _strided,
    "sparse": lambda t: t.to_sparse(),
    "a parameter": lambda t: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
}
CHANGES: dict[Callable[[Draws, Batch], None], float] = {
    _sizes: 0.7, _other_targets: 0.4, _dtype: 0.4, _container: 0.2,
}  # fmt: skip


def _come_along(draws: Draws, batch: Batch, trouble: float) -> None:
    """One or two of mask, weights, groups and head sizes, or a name nobody knows."""
    lead = batch.targets.shape if isinstance(batch.targets, Tensor) else (3,)
    rows = (lead[0] if lead else 1,)
    g = draws.generator
    sound: dict[str, list[Callable[[], Any]]] = {
        "mask": [lambda: torch.rand(rows, generator=g) < 0.7, lambda: torch.rand(tuple(lead), generator=g) < 0.8],
        "sample_weight": [lambda: torch.rand(rows, generator=g) + 0.1, lambda: _whole(g, 4, *rows).float() + 1],
        "groups": [lambda: _whole(g, 3, *rows), lambda: torch.arange(rows[0]) // 4],
        "head_sizes": [lambda: torch.rand(rows, generator=g) * 3 + 1],
    }
    for name in draws.random.sample(
        [*sound, *(["speed"] if draws.chance(0.1) else [])], draws.random.choice([1, 1, 2])
    ):
        if name in sound and not draws.chance(trouble):
            batch.context[name] = draws.random.choice(sound[name])()
            continue
        how = draws.pick(name, list(SPOILT))
        batch.context[name] = SPOILT[how](torch.rand(rows, generator=g))
        batch.traits.append(f"{name}: {how}")


SPOILT: dict[str, Callable[[Tensor], Any]] = {
    "all False": lambda x: x > 2,
    "all True": lambda x: x > -1,
    "zeros": torch.zeros_like,
    "negative": lambda x: x - 5,
    "whole and negative": lambda x: (x * 8).long() - 4,
    "whole and far apart": lambda x: (x * 1e15).long(),
    "NaN": _one(float("nan")),
    "infinite": _one(float("inf")),
    "1e300": lambda x: x.double() * 1e300,
    "1e-300": lambda x: x.double() * 1e-300,
    "too long": lambda x: torch.cat([x, x, x[:1]]),
    "a column": lambda x: x[:, None],
    "0-d": lambda x: x.sum(),
    "complex": lambda x: x.to(torch.complex64),
    "half": lambda x: x.half(),
    "a list": lambda x: x.tolist(),
    "an array": lambda x: x.numpy(),
    "text": lambda x: "balanced",
    "meta": lambda x: x.to("meta"),
}
