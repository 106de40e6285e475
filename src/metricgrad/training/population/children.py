"""Several child networks of one architecture, all of them trained at a time: in a loop, or stacked into one model."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from metricgrad.losses.base import CallContext, Form
from metricgrad.training.options import Optimizer


class Children(abc.ABC):
    """Abstract: n models, each with its form.

    Attributes:
        models: the networks; a stacked population writes its weights back to them in :meth:`state_of`.
        forms: one for each, the same but for their knobs.
        optimizers: one for each, or one for all.
        outputs: of the last step, each child's scores and targets.
    """

    def __init__(self, models: Sequence[nn.Module], forms: Sequence[Form]) -> None:
        self.models, self.forms = list(models), list(forms)
        self.optimizers: list[torch.optim.Optimizer] = []
        self.outputs: list[tuple[Tensor, Tensor]] = []

    @abc.abstractmethod
    def step(self, inputs: Tensor, targets: Tensor, call: CallContext) -> Tensor:
        """One optimiser step of each child on its own batch, ``(n, B, ...)``; the ``(n,)`` losses."""

    @abc.abstractmethod
    def scores(self, inputs: Tensor) -> list[Tensor]:
        """Scores of the same inputs by each child, in eval mode and without gradients."""

    def state_of(self, child: int) -> dict[str, Tensor]:
        """A copy of a child's weights and buffers, as its model's ``state_dict`` has them."""
        return {name: value.detach().clone() for name, value in self.models[child].state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All weights, and what the optimisers remember."""
        return {
            "models": [self.state_of(child) for child in range(len(self.models))],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state` of children that were trained in the same way."""
        for model, own in zip(self.models, state["models"], strict=True):
            model.load_state_dict(own)
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)

    @abc.abstractmethod
    def copy(self, best: int, worst: int) -> None:
        """Weights, buffers and the optimiser's moments of one child to another."""


class Looped(Children):
    """One after the other; any model, any form."""

    def __init__(self, models: Sequence[nn.Module], forms: Sequence[Form], optimizer: Optimizer) -> None:
        super().__init__(models, forms)
        self.optimizers = [optimizer(model.parameters()) for model in models]

    def step(self, inputs: Tensor, targets: Tensor, call: CallContext) -> Tensor:
        """One after the other."""
        losses, self.outputs = [], []
        for child, (model, form, optimizer) in enumerate(zip(self.models, self.forms, self.optimizers, strict=True)):
            model.train()
            optimizer.zero_grad()
            scores = model(inputs[child])
            loss = form(scores, targets[child], call=call)
            self.outputs.append((scores.detach(), targets[child]))
            if loss.requires_grad:
                loss.backward()
                optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> list[Tensor]:
        """One after the other."""
        found = []
        for model in self.models:
            model.eval()
            found.append(model(inputs))
        return found

    def copy(self, best: int, worst: int) -> None:
        """By their state dicts."""
        self.models[worst].load_state_dict(self.state_of(best))
        # without a copy the two optimisers would go on to share their moments
        self.optimizers[worst].load_state_dict(copy.deepcopy(self.optimizers[best].state_dict()))


class Stacked(Children):
    """All at once, the weights stacked along a new first axis and the model mapped over it.

    Pays where the overhead of many small operations rules. The optimiser must treat every number by itself, as SGD and
    Adam do; one that looks at whole tensors would mix the children.
    """

    def __init__(self, models: Sequence[nn.Module], forms: Sequence[Form], optimizer: Optimizer) -> None:
        super().__init__(models, forms)
        self.parameters, self.buffers = stack_module_state(self.models)
        self.optimizers = [optimizer(self.parameters.values())]
        self.skeleton = self.models[0]

    @staticmethod
    def possible(models: Sequence[nn.Module], forms: Sequence[Form], inputs: Tensor) -> bool:
        """Whether the model maps: tried once, on a few rows."""
        try:
            Stacked(models, forms, torch.optim.SGD)._apply(inputs[None, :2].expand(len(models), *inputs[:2].shape))
        except (RuntimeError, ValueError):
            return False
        return True

    def step(self, inputs: Tensor, targets: Tensor, call: CallContext) -> Tensor:
        """One pass, one step."""
        self.skeleton.train()
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        scores = self._apply(inputs)
        losses = type(self.forms[0]).batched_forward(self.forms, scores, targets, call=call)
        self.outputs = list(zip(scores.detach(), targets, strict=True))
        if losses.requires_grad:
            losses.sum().backward()
            optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> list[Tensor]:
        """One pass."""
        self.skeleton.eval()
        found = vmap(self._call, in_dims=(0, 0, None), randomness="different")(self.parameters, self.buffers, inputs)
        return list(found)

    def state_of(self, child: int) -> dict[str, Tensor]:
        """By way of the child's model, which alone knows its state's names."""
        for held, stack in self._held(child):
            held.copy_(stack[child].detach())
        return super().state_of(child)

    def load_state(self, state: dict[str, Any]) -> None:
        """By way of the models."""
        super().load_state(state)
        for child in range(len(self.models)):
            for held, stack in self._held(child):
                stack.detach()[child] = held

    @torch.no_grad()
    def copy(self, best: int, worst: int) -> None:
        """Row by row, in the stacks and in the optimiser's."""
        for stack in (*self.parameters.values(), *self.buffers.values()):
            stack[worst] = stack[best]
        for parameter, state in self.optimizers[0].state.items():
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value[worst] = value[best]

    def _held(self, child: int) -> list[tuple[Tensor, Tensor]]:
        """Each tensor of a child's model, without its history, and the stack it has a row in."""
        model, stacks = self.models[child], {**self.parameters, **self.buffers}
        return [(held.detach(), stacks[name]) for name, held in (*model.named_parameters(), *model.named_buffers())]

    def _apply(self, inputs: Tensor) -> Tensor:
        return vmap(self._call, randomness="different")(self.parameters, self.buffers, inputs)

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.skeleton, (parameters, buffers), (inputs,))
