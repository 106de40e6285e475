"""Base classes that say all at once what a subclass lacks."""

from __future__ import annotations

import abc
import inspect
from typing import Any, Self

from metricgrad.errors import MetricgradError


class Abstract(abc.ABC):  # noqa: B024 its subclasses have the abstract methods
    """Refuses to be made while a method is abstract or a class attribute without a value.

    Class attributes are those annotated as ``ClassVar``.

    Raises:
        MetricgradError: naming all of them.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An instance, where nothing is missing."""
        if missing := [*_attributes(cls), *_methods(cls)]:
            raise MetricgradError(
                f"{cls.__name__} cannot be made yet; define in the class, or inherit: {', '.join(missing)}"
            )
        return super().__new__(cls)


def _attributes(cls: type) -> list[str]:
    hints = {name: hint for base in cls.__mro__ for name, hint in vars(base).get("__annotations__", {}).items()}
    return sorted(name for name, hint in hints.items() if str(hint).startswith("ClassVar") and not hasattr(cls, name))


def _methods(cls: type) -> list[str]:
    names: frozenset[str] = getattr(cls, "__abstractmethods__", frozenset())
    return [f"{name}({', '.join(map(_shown, _parameters(getattr(cls, name))))})" for name in sorted(names)]


def _parameters(method: Any) -> list[inspect.Parameter]:
    if not callable(method):
        return []
    found = list(inspect.signature(method).parameters.values())
    return found if inspect.ismethod(method) else found[1:]


def _shown(parameter: inspect.Parameter) -> str:
    return {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "") + parameter.name
