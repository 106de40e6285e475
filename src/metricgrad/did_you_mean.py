"""What is close to a name that is not there; imports nothing dear, so that a command's help does not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(name: str, known: Iterable[str], also: Mapping[str, str] | None = None, *, most: int = 3) -> str:
    """A question that names what is close, whatever its case, or says what is known.

    Args:
        name: what was asked for.
        known: the names there are.
        also: other names that people use, in lower case, to the name there is.
        most: names to suggest.

    Example:
        >>> did_you_mean("AP", ["average_precision", "auroc"], {"ap": "average_precision"})
        'did you mean average_precision?'
        >>> did_you_mean("x", ["one", "two"])
        'known are one, two'
    """
    names = list(known)
    also = also or {}
    wanted = str(name).lower().replace("-", "_").replace(" ", "_").replace("@", "_at_")
    exact = wanted if wanted in names else also.get(wanted)
    close = [exact] if exact else difflib.get_close_matches(wanted, [*names, *also], n=most)
    found = list(dict.fromkeys(also.get(one, one) for one in close))
    return f"did you mean {' or '.join(found)}?" if found else f"known are {', '.join(names)}"
