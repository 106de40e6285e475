"""What a file has of an interpolated form that is no parameter of it."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from torch import nn


class _Params(TypedDict, total=False):
    k: int
    within: Literal["all", "sample", "row", "column", "group"]


class Found(TypedDict):
    """A structure that probing found, as a file has it."""

    kind: Literal["labels", "top_k", "positives_over_negatives", "ranking", "differentiable"]
    exchangeable: Literal["all", "column", "row", "sample", "none"]
    params: _Params


def renamed(form: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """As version 0.1 called it."""
    if (old := prefix + "silent") in state_dict:
        state_dict[prefix + "constant_batches"] = state_dict.pop(old)
