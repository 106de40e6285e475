"""What a loss is of, said in its state, so that the state of another loss is refused before any of it is loaded."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import Aligner
from metricgrad.errors import MetricgradError
from metricgrad.json_types import parse, unequal
from metricgrad.losses.base import Form
from metricgrad.losses.calling import ScoreLoss
from metricgrad.losses.class_reading import ClassReading
from metricgrad.metrics.metric import Metric

DESCRIPTION = "description"
"""Its name in a state: uint8, so that whatever keeps tensors keeps it."""

_PLAIN = (str, int, float, bool, type(None))


class DescribedLoss(ScoreLoss):
    """Abstract: a loss whose state says what it is of, and which takes no other's.

    ``load_state_dict`` compares the metric and all options before anything is loaded, and an error names what differs;
    with ``strict=False`` too, which in torch as well is of names alone. What weights were drawn with does not count, as
    they are loaded; the seed of the draws to come is taken from the state. A state that an earlier version saved says
    nothing, and is loaded as it is.
    """

    form: Form
    aligner: Aligner
    classes: ClassReading
    seed: int
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_of_the_same)

    def description(self) -> dict[str, Any]:
        """The two halves with their options, and how batches are read, as JSON has them."""
        form, aligner = _told(self.form), _told(self.aligner)
        return {"form": _without_seeds(form), "aligner": aligner, **self.classes.described()}

    def undescribed_state(self) -> dict[str, Any]:
        """The state without what it says of itself, for who says it in another way."""
        return {name: part for name, part in self.state_dict().items() if name.rpartition(".")[2] != DESCRIPTION}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        text = json.dumps({**self.description(), "seed": self.seed}).encode()
        said = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        destination[prefix + DESCRIPTION] = said.to(self.steps.device)


def _of_the_same(loss: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(loss, DescribedLoss)
    said = state_dict.pop(key := prefix + DESCRIPTION, None)
    if said is None:
        return
    saved = _read(said)
    seed = saved.pop("seed")
    if found := unequal(saved, loss.description()):
        told = "; ".join(f"{where} was {one!r:.80} and is {other!r:.80}" for where, one, other in found[:3])
        raise MetricgradError(
            f"this state is of another loss: {told}{f'; {len(found) - 3} more' if found[3:] else ''}. Make the loss as "
            f"it was, or take all that fits by leaving out what the state says of itself: del state[{key!r}]"
        )
    loss.seed = seed


def _read(said: Any) -> dict[str, Any]:
    try:
        saved = parse(bytes(said.tolist()))
    except (MetricgradError, AttributeError, TypeError, ValueError) as error:
        raise MetricgradError(
            f"the state's {DESCRIPTION!r} is none that a loss wrote: {error}; leave it out"
        ) from error
    if not isinstance(saved, dict) or type(saved.get("seed")) is not int:
        raise MetricgradError(f"the state's {DESCRIPTION!r} is {saved!r:.60}, which no loss wrote; leave it out")
    return saved


def _told(half: Form | Aligner) -> list[Any]:
    try:
        options = json.loads(json.dumps(half.config()))
    except (MetricgradError, TypeError, ValueError):  # a part made by hand has a repr only
        options = repr(half).splitlines()
    return [half.kind, options, _without_spec(half)]


def _without_spec(half: nn.Module) -> dict[str, Any]:
    """What is known of metrics that no spec makes again, by where they are."""
    held = ((name, value) for name, part in half.named_modules() for value in vars(part).values())
    return {
        name: {"is": repr(metric), **{k: v for k, v in metric.fixed.items() if isinstance(v, _PLAIN)}}
        for name, metric in held
        if isinstance(metric, Metric) and metric.spec is None
    }


def _without_seeds(described: Any) -> Any:
    if isinstance(described, dict):
        return {name: _without_seeds(value) for name, value in described.items() if name != "seed"}
    return [_without_seeds(value) for value in described] if isinstance(described, list) else described
