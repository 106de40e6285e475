"""The Jacobian of a model's outputs times a direction in its parameters, at the parameters of a step that is past.

Forward mode does it in one pass. Not every operation has a forward rule, and some draw another dropout mask under it;
the outputs of the pass are therefore compared with those of the step, and other ways are tried where they differ.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from metricgrad.aligners.channels_last import ChannelsLast, channels_last, may_gain
from metricgrad.aligners.isolation import again, kept_randomness, parameter_places, plain_checkpoints, standing
from metricgrad.aligners.lookahead.forward_rules import ForwardRules, ReadElsewhereError
from metricgrad.aligners.lookahead.history import NOT_REPEATED, SkippedStepError
from metricgrad.aligners.lookahead.outer_products import OuterProducts, ParameterDirection, whole
from metricgrad.aligners.lookahead.recorded_calls import Contribution, ModelCall, outputs_of
from metricgrad.on_host import read

Values = Mapping[Tensor, Tensor]
Way = Callable[[nn.Module, Values, Any, ModelCall], tuple[list[Tensor], list[Tensor]]]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class ForwardMode:
    """Jacobian-vector products of one model, and which way to them works for it.

    Args:
        exact: False begins with a one-sided difference, whose one side is the step's own output: one forward pass.
    """

    def __init__(self, exact: bool) -> None:
        self._ways: list[tuple[str, Way]] = [
            ("forward mode", _forward_mode),
            ("double backward", _double_backward),
            ("a finite difference", _finite_difference),
        ]
        self._checked = False
        self._last: bool | None = None
        if not exact:
            self._ways.insert(0, ("a one-sided difference", _one_sided))

    @property
    def way(self) -> str:
        """The way in use."""
        return self._ways[0][0]

    @property
    def takes_differences(self) -> bool:
        """Whether the way in use is a difference."""
        return self._ways[0][1] in (_finite_difference, _one_sided)

    @property
    def takes_products(self) -> bool:
        """Whether outer products in a direction need not be multiplied out as a whole."""
        return self._ways[0][1] is _forward_mode

    def channels_last(self, values: Values, parts: Sequence[Contribution]) -> bool:
        """Whether the model gives the step's outputs with convolutions in channels-last memory, and has any.

        Args:
            values: as in :meth:`jvp`.
            parts: of the step, whose model calls are tried once.
        """
        if self._last is None:
            calls = [call for part in parts for call, _ in part.loss.heads]
            self._last = all(may_gain(call.module) and _same_with_channels_last(values, call) for call in calls)
        return self._last

    def jvp(self, model: nn.Module, values: Values, direction: ParameterDirection, call: ModelCall) -> list[Tensor]:
        """One tangent for each output of a call.

        Args:
            model: called as the step called it, hooks included, on copies of its buffers.
            values: of the parameters in the step; those left out are as they are.
            direction: for some of those parameters.
            call: the model call.

        Raises:
            SkippedStepError: where no way gives the outputs of the step again; all are tried anew in the next.
        """
        failed: list[str] = []
        while len(failed) < len(self._ways):
            name, way = self._ways[len(failed)]
            along = direction if way is _forward_mode else _dense(direction)
            device = call.randomness.device or torch.device("cpu")
            with kept_randomness(device, call.randomness):
                try:
                    with channels_last(bool(self._last)):
                        primal, tangents = way(model, values, along, call)
                    problem = differs(primal, call.outputs)
                    if problem is None and way is _double_backward and not self._checked:
                        again, differences = _finite_difference(model, values, _dense(along), call)
                        problem = None if differs(again, call.outputs) else _disagrees(tangents, differences)
                        self._checked = problem is None
                except (NotImplementedError, RuntimeError) as error:
                    problem = str(error).splitlines()[0]
                    tangents = []
            if problem is None:
                call.first_layers.clear()  # their memory is wanted for what follows
                if failed:
                    del self._ways[: len(failed)]
                    warnings.warn(
                        f"LookAhead cannot use {', '.join(failed)} on {type(model).__name__}; it uses {name} from here "
                        "on, which costs more",
                        stacklevel=2,
                    )
                return tangents
            if self._last:  # it may be the place in memory
                self._last = False
                continue
            failed.append(f"{name} ({problem})")
        raise SkippedStepError(
            NOT_REPEATED,
            f"the forward pass of {type(model).__name__} cannot be repeated by {', '.join(failed)}; do not change its "
            "inputs, parameters or mode between its call and the step, as SAM or another optimiser does, and make it "
            "depend on its inputs, parameters, buffers and torch's random state alone",
        )


def differs(again: list[Tensor], outputs: list[Tensor]) -> str | None:
    """Why a pass is not the step's, or None."""
    if len(again) != len(outputs):
        return "it gives another number of outputs"
    pairs = [(new.detach(), old.detach()) for new, old in zip(again, outputs, strict=True) if old.numel()]
    if not pairs:
        return None
    measured = read([torch.linalg.vector_norm(part, math.inf) for new, old in pairs for part in (new - old, old)])
    for gap, size, (_, old) in zip(measured[::2], measured[1::2], pairs, strict=True):
        if not math.isfinite(size):  # NaN among the outputs, or infinity
            continue
        if not gap <= _TOLERANCE.get(old.dtype, 1e-4) * max(size, 1e-6):
            return f"it gives other outputs than the step did, by {gap:.2g} of {size:.2g}"
    return None


def _disagrees(tangents: list[Tensor], differences: list[Tensor]) -> str | None:
    """Why tangents cannot be right, or None: a function that is once differentiable cuts double backward short."""
    for tangent, difference in zip(tangents, differences, strict=True):
        if not float((tangent - difference).norm()) <= 0.1 * float(difference.norm()) + 1e-12:
            return "its product is not that of a finite difference"
    return None


def _same_with_channels_last(values: Values, call: ModelCall) -> bool:
    with kept_randomness(call.randomness.device or torch.device("cpu"), call.randomness), torch.no_grad():
        try:
            with ChannelsLast():
                return differs(run(call.module, values, call), call.outputs) is None
        except (NotImplementedError, RuntimeError):
            return False


def run(model: nn.Module, values: Values, call: ModelCall) -> list[Tensor]:
    """The outputs of a recorded call at other parameters, on copies of the buffers of the moment."""
    with _at(model, values, call):
        return outputs_of(model(*call.args, **call.kwargs))


@contextlib.contextmanager
def _at(model: nn.Module, values: Values, call: ModelCall) -> Iterator[None]:
    """The model is inside as it was in a call, but for these parameters."""
    places = [*parameter_places(model, values), *again(call.buffers)]
    with call.autocast.again(), plain_checkpoints(), standing(places):
        yield


def _forward_mode(
    model: nn.Module, values: Values, direction: ParameterDirection, call: ModelCall
) -> tuple[list[Tensor], list[Tensor]]:
    try:
        return _dual_pass(model, values, direction, call)
    except ReadElsewhereError:
        call.randomness.restore()
        return _dual_pass(model, values, _dense(direction), call)


def _dual_pass(
    model: nn.Module, values: Values, direction: ParameterDirection, call: ModelCall
) -> tuple[list[Tensor], list[Tensor]]:
    products = [(values[p], along) for p, along in direction.items() if isinstance(along, OuterProducts)]
    with torch.no_grad(), forward_ad.dual_level():
        duals = {
            p: forward_ad.make_dual(value, along) if isinstance(along := direction.get(p), Tensor) else value
            for p, value in values.items()
        }
        first = [layer.with_parameters(duals) for layer in call.first_layers if layer.weight in direction]
        with ForwardRules(products, first), sdpa_kernel(SDPBackend.MATH):
            outputs = run(model, duals, call)
        unpacked = [forward_ad.unpack_dual(output) for output in outputs]
        primal = [part.primal for part in unpacked]
        return primal, [torch.zeros_like(p) if t is None else t for p, t in unpacked]


def _dense(direction: ParameterDirection) -> Values:
    return {p: whole(along) for p, along in direction.items()}


def _double_backward(
    model: nn.Module, values: Values, direction: Values, call: ModelCall
) -> tuple[list[Tensor], list[Tensor]]:
    """The transposed product is linear in its vector, so its derivative along the direction is the product itself."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaves = {p: value.detach().requires_grad_(p in direction) for p, value in values.items()}
        along = list(direction)
        with _at(model, leaves, call):  # for the backward pass too, in which checkpoints score again
            outputs = outputs_of(model(*call.args, **call.kwargs))
            live = [output for output in outputs if output.requires_grad]
            vectors = [torch.zeros_like(output, requires_grad=True) for output in live]
            to = [leaves[p] for p in along]
            pulled = torch.autograd.grad(live, to, vectors, create_graph=True, allow_unused=True)
        pairs = [(g, direction[p]) for p, g in zip(along, pulled, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return outputs, [torch.zeros_like(output) for output in outputs]
        parts, tangents = zip(*pairs, strict=True)
        pushed = iter(torch.autograd.grad(parts, vectors, tangents, allow_unused=True))
        found = [next(pushed) if output.requires_grad else None for output in outputs]
        return outputs, [torch.zeros_like(o) if t is None else t for o, t in zip(outputs, found, strict=True)]


def _finite_difference(
    model: nn.Module, values: Values, direction: Values, call: ModelCall
) -> tuple[list[Tensor], list[Tensor]]:
    """Central, at a step that balances rounding against curvature."""
    with torch.no_grad():
        epsilon = _small(values, direction, 1 / 3)
        primal, up, down = (_run_at(model, values, direction, call, shift) for shift in (0.0, epsilon, -epsilon))
        return primal, [(a - b) / (2 * epsilon) for a, b in zip(up, down, strict=True)]


def _one_sided(
    model: nn.Module, values: Values, direction: Values, call: ModelCall
) -> tuple[list[Tensor], list[Tensor]]:
    """One pass; whether it draws the step's dropout masks cannot be seen from it, but it runs as the step did."""
    with torch.no_grad():
        epsilon = _small(values, direction, 1 / 2)
        moved = _run_at(model, values, direction, call, epsilon)
        primal = [output.detach() for output in call.outputs]
        return primal, [(a - b) / epsilon for a, b in zip(moved, primal, strict=True)]


def _small(values: Values, direction: Values, power: float) -> float:
    length, size = (float(torch.stack([t.norm() for t in part.values()]).norm()) for part in (direction, values))
    epsilon = torch.finfo(next(iter(values.values())).dtype).eps ** power
    return epsilon * max(size, 1e-3) / max(length, 1e-30)


def _run_at(model: nn.Module, values: Values, direction: Values, call: ModelCall, shift: float) -> list[Tensor]:
    call.randomness.restore()
    moved = {p: torch.add(v, direction[p], alpha=shift) if p in direction else v for p, v in values.items()}
    return run(model, moved, call)
