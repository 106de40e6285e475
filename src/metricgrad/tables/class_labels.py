"""The classes of a target as the values that its column holds: whole numbers, numbers, booleans or text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from metricgrad.tables.values import arrow_functions, as_numbers, as_texts, codes_of

if TYPE_CHECKING:
    import pandas as pd

LabelType = Literal["text", "int", "float", "bool"]

_INFERRED: dict[str, LabelType] = {
    "boolean": "bool", "integer": "int", "floating": "float", "mixed-integer-float": "float",
}  # fmt: skip
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_CODE = re.compile(r"[+-]?0\d.*")
_BOOLEANS = {"true", "false"}


def label_type(column: pd.Series, classes: Sequence[str], *, from_csv: bool) -> LabelType:
    """The type in which answers are given: the column's own.

    Args:
        column: of the target.
        classes: its different texts.
        from_csv: whether it is text only because a file is; it is then what :func:`pandas.read_csv` makes of such
            texts, but for codes such as 007, which stay text.

    Example:
        >>> import pandas as pd
        >>> texts = pd.Series(["0", "1"])
        >>> label_type(texts, ["0", "1"], from_csv=True), label_type(texts, ["0", "1"], from_csv=False)
        ('int', 'text')
    """
    import pandas as pd
    from pandas.api import types

    values = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if types.is_bool_dtype(values.dtype):
        return "bool"
    if types.is_numeric_dtype(values.dtype):
        return "int" if types.is_integer_dtype(values.dtype) else "float"
    found = _INFERRED.get(types.infer_dtype(values, skipna=True), "text")
    return _as_csv(classes) if found == "text" and from_csv else found


def _as_csv(classes: Sequence[str]) -> LabelType:
    if {text.lower() for text in classes} <= _BOOLEANS:
        return "bool"
    if all(_WHOLE.fullmatch(text) for text in classes):
        return "int"
    codes = any(_CODE.fullmatch(text) for text in classes)
    return "text" if codes or _numbers(classes) is None else "float"


def labels_of(classes: Sequence[str], type: LabelType) -> np.ndarray:
    """``(C,)``: what answers are made of.

    Raises:
        ValueError: for texts that are none of this type.
        OverflowError: for a whole number that is none.

    Example:
        >>> labels_of(["0", "1"], "int").tolist(), labels_of(["False", "True"], "bool").tolist()
        ([0, 1], [False, True])
    """
    if type == "int":
        return np.array([int(text) if _WHOLE.fullmatch(text) else int(float(text)) for text in classes])
    if type == "float":
        return np.array([float(text) for text in classes])
    if type == "bool":
        return np.array([text.lower() == "true" for text in classes])
    return np.array(classes, dtype=object)


def label_codes(column: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """``(N,)`` int64 place of each value among the classes, below 0 where it is none of them.

    Where all classes are numbers they are told by value, so that 1, 1.0 and "1" are one class; True is "true".
    """
    texts = as_texts(column)
    if (values := _numbers(classes)) is not None:
        order = np.argsort(values)
        numbers, _ = as_numbers(column)
        places = np.searchsorted(values[order], numbers).clip(max=len(values) - 1)
        return np.where(values[order][places] == numbers, order[places], -1)
    if {text.lower() for text in classes} == _BOOLEANS and len(classes) == len(_BOOLEANS):
        return codes_of(arrow_functions().utf8_lower(texts), [text.lower() for text in classes])
    return codes_of(texts, classes)


def class_of(given: str, classes: Sequence[str]) -> str:
    """The class that is meant: 1.0 where the classes are 0 and 1; what was given where it is none."""
    import pandas as pd

    code = int(label_codes(pd.Series([given]), classes)[0])
    return classes[code] if code >= 0 else given


def joined_by_value(counts: dict[str, int]) -> dict[str, int]:
    """Rows of each number, in ascending order, called as it is written most often.

    Example:
        >>> joined_by_value({"1": 5, "0": 4, "1.0": 2})
        {'0': 4, '1': 7}
    """
    names: dict[float, str] = {}
    found: dict[str, int] = {}
    for text in sorted(counts, key=lambda text: (float(text), -counts[text], text)):
        name = names.setdefault(float(text), text)
        found[name] = found.get(name, 0) + counts[text]
    return found


def alike(classes: Sequence[str]) -> list[list[str]]:
    """Classes that differ by capitals or spaces alone.

    Example:
        >>> alike(["no", "Yes", "yes"])
        [['Yes', 'yes']]
    """
    found: dict[str, list[str]] = {}
    for text in classes:
        found.setdefault("".join(text.casefold().split()), []).append(text)
    return [texts for texts in found.values() if len(texts) > 1]


def _numbers(classes: Sequence[str]) -> np.ndarray | None:
    """Their values, where each is another finite number."""
    try:
        found = [float(text) for text in classes]
    except ValueError:
        return None
    sound = len(set(found)) == len(found) and all(map(math.isfinite, found))
    return np.array(found) if sound else None
