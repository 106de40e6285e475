"""A pretend accelerator, ``"sim"``, on a machine without one: mixed devices raise on it as they would on a GPU.

    enable()                      # once in a process, before tensors are made
    model.to("sim"); x = x.to("sim")

PrivateUse1 is renamed to ``sim`` and gets torch's own hooks for Python devices. A tensor there is a wrapper with the
true sizes, strides, dtype and device around a hidden CPU tensor. Below autograd, ``__torch_dispatch__`` sees every
operation: it refuses what mixes devices, counts what makes the host wait (:mod:`tests.devices.counting`), runs the
operation on the hidden tensors and wraps what comes out.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from metricgrad.precision import WITHOUT_FLOAT64
from tests.devices import counting

DEVICE = "sim"

_COPIES = {"copy_", "_copy_from", "_copy_from_and_resize", "_to_copy", "copy", "_foreach_copy_"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
#: Where a number may be a 0-d CPU tensor although the operation is not pointwise, and where it may not though it is.
_NUMBERS = {"masked_fill": 2, "masked_fill_": 2, "index_fill": 3, "index_fill_": 3, "fill": 1, "fill_": 1}
_NO_NUMBERS = {"clamp", "clamp_", "clamp_min", "clamp_max", "addcdiv", "addcmul", "addcdiv_", "addcmul_"}
_DRAWS = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")
_kept: list[Any] = []
_generators: dict[int, Any] = {}


class SimTensor(torch.Tensor):
    """A tensor on the pretend device; ``hidden`` is the CPU tensor that holds its values."""

    __slots__ = ["hidden"]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, hidden: torch.Tensor, requires_grad: bool = False) -> SimTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, hidden.size(), strides=hidden.stride(), storage_offset=hidden.storage_offset(), dtype=hidden.dtype,
            layout=hidden.layout, device=torch.device(DEVICE, 0), requires_grad=requires_grad,
        )  # fmt: skip
        made.hidden = hidden
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def untyped_storage(self) -> Any:
        return self.hidden.untyped_storage()  # who shares memory with whom is true of it, its device is not

    def data_ptr(self) -> int:
        return self.hidden.data_ptr() if hasattr(self, "hidden") else 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            if not self.is_leaf:
                raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
            made = memo[id(self)] = SimTensor(self.hidden.clone(), self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                made._is_param = True
            if self.grad is not None:
                made.grad = copy.deepcopy(self.grad, memo)
        return memo[id(self)]

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.hidden!r}[:-1], device='{self.device}')"


def enable() -> None:
    """Make the device; once in a process."""
    if _kept:
        return
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(DEVICE, backend_module=_Backend())
    library = torch.library.Library("aten", "IMPL")
    for name, operation in _factories():
        library.impl(name, _factory(operation), "PrivateUse1")
    for name in ("_copy_from", "_local_scalar_dense", "copy_", "_copy_from_and_resize"):
        operation = getattr(torch.ops.aten, name).default
        library.impl(name, lambda *args, op=operation, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    every = torch.library.Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    _kept.extend((library, every))
    torch.Generator = _generator_class(torch.Generator)
    for name in _DRAWS:
        setattr(torch, name, _guarded(getattr(torch, name)))
    for name in ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "multinomial", "bernoulli"):
        setattr(torch.Tensor, name, _guarded(getattr(torch.Tensor, name)))
    from torch.optim import optimizer

    optimizer._foreach_supported_types.append(SimTensor)


class _Backend:
    """What ``torch.sim`` answers."""

    is_initialized = is_available = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    _is_in_bad_fork = staticmethod(lambda: False)
    set_device = manual_seed = manual_seed_all = staticmethod(lambda *_: None)
    synchronize = staticmethod(lambda *_: None)
    get_rng_state = staticmethod(lambda *_: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, *_: torch.set_rng_state(state))
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])


class _Facts(NamedTuple):
    """What is known of an operation from its schema.

    Attributes:
        name: without its namespace and overload.
        arguments: their names.
        written: the names of those that it writes into.
        composite: whether it is made of others.
    """

    name: str
    arguments: tuple[str, ...]
    written: tuple[str, ...]
    composite: bool


@functools.cache
def _facts(func: Any) -> _Facts:
    schema = func._schema
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    written = tuple(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    return _Facts(schema.name.split("::")[-1], tuple(a.name for a in schema.arguments), written, composite)


def _on_cpu(x: Any) -> bool:
    return type(x) is not SimTensor and isinstance(x, torch.Tensor) and x.device.type == "cpu"


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """What is in arguments and lists of them; torch's pytrees take longer than the operations."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Tensors, and those in lists of them, changed."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, one) for one in value])
    return change(value) if isinstance(value, torch.Tensor) else value


def _bare(value: torch.Tensor) -> torch.Tensor:
    return value.hidden if type(value) is SimTensor else value


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation: check the devices, run it on the hidden tensors, wrap what comes out."""
    facts = _facts(func)
    name = facts.name
    # without autograd above (inference mode) composites arrive whole: take them apart, so that their parts are checked
    if facts.composite:
        done = func.decompose(*args, **kwargs)
        if done is not NotImplemented:
            return done
    tensors, others = [], []
    for value in _leaves((args, *kwargs.values())):
        (tensors if isinstance(value, torch.Tensor) else others).append(value)
    for value in others:
        _check_generator(value, func)
    _check(func, facts, args, kwargs, tensors)
    counting.count(func, name, args, kwargs, lambda x: isinstance(x, SimTensor))
    target = kwargs.get("device")
    target = None if target is None else torch.device(target).type
    given = {id(v.hidden): v for v in tensors if type(v) is SimTensor}
    bare_args, bare_kwargs = _mapped(_bare, args), {key: _mapped(_bare, value) for key, value in kwargs.items()}
    if target == DEVICE:
        bare_kwargs["device"] = torch.device("cpu")
    if bare_kwargs.get("pin_memory"):
        raise RuntimeError("cannot pin a sim tensor, only dense CPU tensors can be pinned")
    out = func(*bare_args, **bare_kwargs)
    _check_width(out, target)
    if name == "_to_copy" and target == "cpu":
        return out.clone() if any(out is v for v in bare_args) else out
    if name in ("copy_", "_copy_from") and not isinstance(args[0] if name == "copy_" else args[1], SimTensor):
        return args[0] if name == "copy_" else args[1]
    if target == "cpu":
        return out
    if facts.written:
        for holder in given.values():
            if holder.hidden.shape != holder.shape or holder.hidden.stride() != holder.stride():
                with torch.no_grad():  # squeeze_ and the like gave the hidden tensor other sizes
                    torch.Tensor.data.__set__(holder, SimTensor(holder.hidden))

    def wrap(value: torch.Tensor) -> torch.Tensor:
        if type(value) is SimTensor:
            return value
        if id(value) in given:
            return given[id(value)]
        if torch.is_inference_mode_enabled() and not value.is_inference():  # a view of a tensor from outside
            with torch.inference_mode(False):
                return SimTensor(value)
        return SimTensor(value)

    return _mapped(wrap, out)


def _check(func: Any, facts: _Facts, args: Any, kwargs: Any, tensors: list[torch.Tensor]) -> None:
    """Raise where a GPU would."""
    cpu, name = [x for x in tensors if _on_cpu(x)], facts.name
    if not cpu or name in _COPIES:
        return
    shapes = [tuple(x.shape) for x in cpu]
    mixed = RuntimeError(
        f"Expected all tensors to be on the same device, but found {DEVICE}:0 and cpu! ({func}, cpu shapes {shapes})"
    )
    if name in _INDEXING:  # a CPU index is copied, CPU values are not
        if _on_cpu(args[0]) or (len(args) > 2 and _on_cpu(args[2]) and args[2].dim() > 0):
            raise mixed
        return
    named = dict(zip(facts.arguments, args, strict=False)) | kwargs
    if any(_on_cpu(named.get(one)) for one in facts.written) or any(x.dim() > 0 for x in cpu):
        raise mixed
    if name in _NUMBERS:
        if any(_on_cpu(x) for place, x in enumerate(args) if place != _NUMBERS[name]):
            raise mixed
    elif name.startswith(("_foreach", "_fused")) or (name == "where" and not _on_cpu(args[0])):
        return  # step counters and numbers of optimisers
    elif name in _NO_NUMBERS or torch.Tag.pointwise not in func.tags:
        raise mixed


def _check_width(out: Any, target: str | None) -> None:
    """Raise as MPS does where float64 would come to lie on the device."""
    if DEVICE not in WITHOUT_FLOAT64 or target == "cpu":
        return
    if any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in _leaves((out,))):
        raise TypeError(f"Cannot convert a {DEVICE} Tensor to float64 dtype: the device doesn't support float64.")


def _check_generator(value: Any, func: Any) -> None:
    if isinstance(value, torch._C.Generator) and value._cdata not in _generators:
        raise RuntimeError(f"Expected a '{DEVICE}' device type for generator but found 'cpu' ({func})")


class SimGenerator(torch._C.Generator):
    """``torch.Generator("sim")``: a CPU generator that says it is on the device."""

    def __new__(cls, device: str = DEVICE) -> Any:
        made = torch._C.Generator.__new__(cls, device="cpu")
        _generators[made._cdata] = made  # torch hands operations a new Python object for the same generator
        return made

    @property
    def device(self) -> torch.device:
        return torch.device(DEVICE, 0)


def _generator_class(original: Any) -> Any:
    class Meta(type(original)):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, original)

        def __call__(cls, device: Any = "cpu") -> Any:
            return SimGenerator() if torch.device(device).type == DEVICE else original(device)

    return Meta("Generator", (), {})


def _guarded(base: Callable[..., Any]) -> Callable[..., Any]:
    """A sim generator must not serve CPU tensors."""

    @functools.wraps(base)
    def call(*args: Any, **kwargs: Any) -> Any:
        out = base(*args, **kwargs)
        if isinstance(kwargs.get("generator"), SimGenerator) and _on_cpu(out):
            raise RuntimeError(f"Expected a 'cpu' device type for generator but found '{DEVICE}' ({base.__name__})")
        return out

    return call


def _factory(operation: Any) -> Callable[..., Any]:
    made = torch.ops.aten.zeros.default if _facts(operation).name == "_efficientzerotensor" else operation

    def kernel(*args: Any, **kwargs: Any) -> SimTensor:
        for value in (*args, *kwargs.values()):
            _check_generator(value, operation)
        if kwargs.pop("pin_memory", None):
            raise RuntimeError("Only dense CPU tensors can be pinned")
        counting.count(operation, _facts(operation).name, args, {}, _no_tensor)
        out = made(*args, **{**kwargs, "device": torch.device("cpu")})
        _check_width(out, DEVICE)
        return SimTensor(out)

    return kernel


def _no_tensor(_: Any) -> bool:
    return False


def _factories() -> Iterator[tuple[str, Any]]:
    """Every operation that makes a tensor from no tensor."""
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        odd = "names" in overload or any(word in name for word in ("sparse", "quantized", "_cudnn"))
        if not full.startswith("aten::") or name == "scalar_tensor" or odd:
            continue
        try:
            operation = getattr(getattr(torch.ops.aten, name), overload or "default")
        except (AttributeError, RuntimeError):
            continue
        schema = operation._schema
        makes_one = len(schema.returns) == 1 and str(schema.returns[0].type) == "Tensor"
        takes_none = not any("Tensor" in str(a.type) for a in schema.arguments)
        if makes_one and takes_none and any(a.name == "device" for a in schema.arguments):
            yield f"{name}.{overload}" if overload else name, operation
