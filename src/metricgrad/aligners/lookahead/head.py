"""What a user does between the model's outputs and the scores."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor


def goes_past(scores: Tensor, outputs: list[Tensor], parameters: Collection[Tensor]) -> bool:
    """Whether scores were computed from parameters in another way than through the model's outputs as well."""
    if any(output is scores for output in outputs):
        return False
    seen: set[Any] = {output.grad_fn for output in outputs}
    waiting: list[Any] = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) in parameters:
            return True
        waiting += [following for following, _ in node.next_functions]
    return False


class Head:
    """What a user does between the model's outputs and the scores: a slice, a reshape, a cast, or nothing.

    It is read off the autograd graph, before the user's backward pass frees it: the transposed Jacobian is taken at
    a symbolic vector, and is linear in it.
    """

    def __init__(self, scores: Tensor, outputs: list[Tensor]) -> None:
        self._same = next((i for i, output in enumerate(outputs) if output is scores), None)
        self._vector = self._transposed = None
        self.reaches = self._same is not None
        if self._same is None:
            self._vector = torch.zeros_like(scores, requires_grad=True)
            needing = [output for output in outputs if output.requires_grad]
            found = torch.autograd.grad(
                scores, needing, self._vector, create_graph=True, retain_graph=True, allow_unused=True
            )
            by_id = dict(zip(map(id, needing), found, strict=True))
            self._transposed = [by_id.get(id(output)) for output in outputs]
            self.reaches = any(part is not None for part in self._transposed)

    def jvp(self, tangents: list[Tensor], *, create_graph: bool = False) -> Tensor:
        """The Jacobian times one tangent for each output."""
        if self._same is not None:
            return tangents[self._same]
        assert self._transposed is not None
        assert self._vector is not None
        pairs = [(p, t) for p, t in zip(self._transposed, tangents, strict=True) if p is not None and p.requires_grad]
        if not pairs:
            return torch.zeros_like(self._vector)
        parts, along = zip(*pairs, strict=True)
        (pushed,) = torch.autograd.grad(parts, self._vector, along, retain_graph=True, create_graph=create_graph)
        return pushed

    def is_affine(self, outputs: list[Tensor]) -> bool:
        """Whether the Jacobian is the same everywhere."""
        if self._transposed is None or self._vector is None:
            return True
        probe = sum(((p * p.detach().cos()).sum() for p in self._transposed if p is not None), torch.zeros(()))
        if not isinstance(probe, Tensor) or not probe.requires_grad:
            return True
        needing = [output for output in outputs if output.requires_grad]
        try:
            return all(g is None for g in torch.autograd.grad(probe, needing, retain_graph=True, allow_unused=True))
        except RuntimeError:  # the way to the outputs leads through values that the user's backward pass has freed
            return False
