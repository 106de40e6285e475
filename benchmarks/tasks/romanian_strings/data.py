"""Message catalogues (gettext's .mo files) as pairs of an English string and its translation.

Every translated program has them, so they make a real parallel corpus of interface strings for nearly any language.
By default those of LibreOffice in Romanian, as Debian packs them::

    apt-get install libreoffice-l10n-ro
    # or, without root, in a folder of your own:
    apt-get download libreoffice-l10n-ro && dpkg -x libreoffice-l10n-ro_*.deb .
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from metricgrad.errors import MetricgradError
from tasks.romanian_strings.vocabulary import tokenise

DEBIAN = Path("/usr/lib/libreoffice/program/resource/ro/LC_MESSAGES")
VARIABLE = "METRICGRAD_CATALOGUES"

_MAGIC = 0x950412DE
_CHARSET = re.compile(r"charset=([\w-]+)")
_PLACEHOLDER = re.compile(
    r"\$\([^)]*\)|\$\w+\$?|#\w+#|%\{\w+\}|%PRODUCT\w*|%[A-Z_]{2,}%?|%\d+(?:\$[sd])?|%-?\d*l?[sdiuxcf]\b"
)
_MARKUP = re.compile(r"<[^<>]{1,80}>")
_MARK = re.compile(r"\(\s*[~_]\w\s*\)|[~_](?=\w)|\.\.\.$|…$|:$")

Pair = tuple[list[str], list[str]]


def read_catalogues(folder: str | Path | None = None) -> list[Pair]:
    """Pairs of English and translated words, each English string once.

    Strings lose what is no language: the marks of keyboard accelerators (``~`` and ``_``), a closing colon or dots,
    markup, and line ends; placeholders (``%1``, ``$(ARG1)``, ``%PRODUCTNAME``) become ``%``. They are in lower case.
    Of a message with plural forms the first is taken; its context is left out. A string that is translated in several
    ways has the most frequent one, and one that is its own translation (a name, a formula) is left out, as is one
    without a letter.

    Args:
        folder: searched with its sub-folders for ``*.mo``; by default the environment variable METRICGRAD_CATALOGUES,
            then where Debian's package libreoffice-l10n-ro puts them.

    Returns:
        In the order of the alphabet, so that a seed alone decides any draw.

    Raises:
        MetricgradError: where there are none, saying how to get them, or where a file is no catalogue.
    """
    source = Path(folder or os.environ.get(VARIABLE) or DEBIAN)
    files = sorted(source.rglob("*.mo"))
    if not files:
        raise MetricgradError(
            f"no message catalogues (*.mo) in {str(source)!r}: run `apt-get install libreoffice-l10n-ro`, or, without "
            "root, `apt-get download libreoffice-l10n-ro && dpkg -x libreoffice-l10n-ro_*.deb .`, and pass folder= or "
            f"set {VARIABLE}"
        )
    found: dict[tuple[str, ...], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for file in files:
        for english, translated in read_mo(file):
            here, there = (tuple(tokenise(clean(text))) for text in (english, translated))
            if here and there and here != there and any(word[0].isalpha() for word in here):
                found[here][there] += 1
    # among equally frequent translations the first of the alphabet, so that the order of files decides nothing
    return [(list(here), list(min(found[here].items(), key=lambda x: (-x[1], x[0]))[0])) for here in sorted(found)]


def read_mo(path: str | Path) -> Iterator[tuple[str, str]]:
    """The messages of one compiled catalogue: first forms, without their context and without the header.

    Raises:
        MetricgradError: where the file is torn or of another format.

    References:
        GNU gettext manual, "The Format of GNU MO Files".
    """
    raw = Path(path).read_bytes()
    try:
        order = {_MAGIC: "<", 0xDE120495: ">"}[struct.unpack_from("<I", raw)[0]]
        count, here, there = struct.unpack_from(f"{order}8x3I", raw)
        entries = [(_entry(raw, order, here + 8 * i), _entry(raw, order, there + 8 * i)) for i in range(count)]
        header = next((value.decode("ascii", "replace") for key, value in entries if not key), "")
        charset = match.group(1) if (match := _CHARSET.search(header)) else "utf-8"
        for key, value in entries:
            if key and value:
                original = key.rpartition(b"\x04")[2]
                yield tuple(form.split(b"\0")[0].decode(charset) for form in (original, value))  # type: ignore[misc]  # two
    except (KeyError, struct.error, UnicodeDecodeError, LookupError) as error:
        raise MetricgradError(f"{str(path)!r} is no message catalogue, or it is torn: {error!r}") from error


def _entry(raw: bytes, order: str, at: int) -> bytes:
    length, start = struct.unpack_from(f"{order}2I", raw, at)
    if start + length > len(raw):
        raise struct.error(f"a string of {length} bytes at {start} of {len(raw)}")
    return raw[start : start + length]


def clean(text: str) -> str:
    """A string without accelerators, markup and line ends, with ``%`` for placeholders, in lower case.

    Example:
        >>> clean("Insert ~Rows into $(ARG1)...")
        'insert rows into %'
    """
    text = _PLACEHOLDER.sub("%", _MARKUP.sub(" ", text.replace("\\n", " ")))
    return " ".join(_MARK.sub("", " ".join(text.split())).lower().split())
