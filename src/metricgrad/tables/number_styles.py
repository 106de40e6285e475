"""Numbers as people write them: money, percent, and with thousands apart; told by the whole column."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_UNIT = r"[$€£¥₹₽₩₪₺%]|R\$|US\$|USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|kr|zł"
_PARTS = re.compile(rf"([+-]?)\s*({_UNIT})?\s*([+-]?)(\d[\d.,'\u00a0\u202f ]*?)\s*({_UNIT})?")
_DIGIT = re.compile(r"\d")
_STYLE = re.compile(rf"[.,]({_UNIT})?")
_OF_POINTS = {"$", "US$", "USD", "£", "GBP", "₹", "INR", "¥", "JPY", "CNY"}  # where commas part thousands
_SPACES = "'\u00a0\u202f "  # between thousands where a unit says that it is one number


class Written(NamedTuple):
    """How the numbers of a column are written.

    Attributes:
        style: the decimal sign, and the unit after it if there is one: ``".$"``, ``",€"``, ``".%"``, ``","``.
        doubtful: a text that could be read with the other decimal sign too, as another number.
    """

    style: str
    doubtful: str | None = None


def written_as(texts: Iterable[str]) -> Written | None:
    """The one way in which all texts that have a digit are numbers; None where there is none.

    What can be read in two ways throughout is taken as thousands, and called doubtful.

    Args:
        texts: the different ones of a column.

    Example:
        >>> written_as(["$18,584.50", "$950.00"]), written_as(["2.353,40", "950,00"]), written_as(["75%", "n/a"])
        (Written(style='.$', doubtful=None), Written(style=',', doubtful=None), Written(style='.%', doubtful=None))
        >>> written_as(["1,234", "951"]), written_as(["$5", "5"])
        (Written(style='.', doubtful='1,234'), None)
    """
    with_digits = [text for text in texts if has_digits(text)]
    units: set[str] = set()
    for text in with_digits:
        found = _PARTS.fullmatch(text)
        if found is None or (found[2] and found[5]):
            return None
        units.add(found[2] or found[5] or ("" if found[4].strip("0.,") else "0"))
    units -= {"0"}  # nothing is nothing in every unit
    if len(units) != 1:
        return None
    unit = units.pop()
    able = [d for d in ".," if all(number_of(text, d + unit) is not None for text in with_digits)]
    if len(able) < 2:
        return Written(able[0] + unit) if able else None
    read = ((text, *(abs(number_of(text, d + unit) or 0) for d in ".,")) for text in with_digits)
    text, point, comma = next((one for one in read if one[1] != one[2]), (None, 0, 0))
    sign = "." if point >= comma else ","
    return Written(sign + unit, None if sign == "." and unit in _OF_POINTS else text)


def has_digits(text: str) -> bool:
    """Whether there is one, as in every number."""
    return _DIGIT.search(text) is not None


def number_of(text: str, style: str) -> float | None:
    """The number that a text is, with its unit or without; None where it is none.

    Example:
        >>> number_of("€ 1.200", ",€"), number_of("-$2,140.49", ".$"), number_of("2,14", ".")
        (1200.0, -2140.49, None)
    """
    found = _PARTS.fullmatch(text)
    decimal, unit = style[0], style[1:]
    if found is None or not {found[2], found[5]} <= {None, unit} or (found[1] and found[3]):
        return None
    apart = ("," if decimal == "." else ".") + (_SPACES if unit else "")
    whole, _, fraction = found[4].partition(decimal)
    grouped = re.fullmatch(rf"\d+|[1-9]\d{{0,2}}([{apart}])\d{{3}}(\1\d{{3}})*", whole)
    if grouped is None or not re.fullmatch(r"\d*", fraction):
        return None
    return float(f"{found[1] or found[3]}{re.sub(r'[^0-9]', '', whole)}.{fraction or 0}")


def looks_written(texts: Iterable[str]) -> bool:
    """Whether most texts are numbers with a unit or with thousands apart, though not all of one sort."""
    found = [_is_written(text) for text in texts]
    return sum(found) > len(found) / 2


def _is_written(text: str) -> bool:
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return False
    unit = parts[2] or parts[5] or ""
    return bool(unit) or ("," in text and any(number_of(text, sign) is not None for sign in ".,"))


def is_style(style: str) -> bool:
    """Whether it is one that :func:`written_as` names."""
    return _STYLE.fullmatch(style) is not None


def shown(name: str, style: str) -> tuple[str, str]:
    """The sort of numbers, and a column of such numbers in words.

    Example:
        >>> shown("income", ".$"), shown("share", ".%"), shown("area", ",")
        (('money', 'income ($)'), ('percent', 'share'), ('thousands or decimal commas', 'area (1.234,5)'))
    """
    unit = style[1:]
    if unit == "%":
        return "percent", name
    return ("money", f"{name} ({unit})") if unit else (
        "thousands or decimal commas", f"{name} ({'1,234.5' if style == '.' else '1.234,5'})"
    )  # fmt: skip
