"""Words of a text with their places, and each word as a few hashed numbers, with no vocabulary to fit or to keep."""

from __future__ import annotations

import re
import zlib

FEATURES = 4
WORDS, PIECES = 8192, 2048
_WORD = re.compile(r"\w+|[^\w\s]")
_AFFIX = 3


def words_of(text: str) -> list[tuple[str, int, int]]:
    """Words and single marks of punctuation, each with the offsets of its first character and past its last.

    Example:
        >>> words_of("a (b)")
        [('a', 0, 1), ('(', 2, 3), ('b', 3, 4), (')', 4, 5)]
    """
    return [(match[0], match.start(), match.end()) for match in _WORD.finditer(text)]


def features_of(word: str) -> tuple[int, int, int, int]:
    """The hashed word in lower case, its first and last three letters, and its shape; 0 is left for padding.

    Returns:
        Numbers from 1, the first below :data:`WORDS`, the others below :data:`PIECES`. Different words may share a
        number: with 8,192 of them a text of 3,000 words has some 500 such pairs.
    """
    low = word.lower()
    shape = re.sub(r"[A-Z]+", "A", re.sub(r"[a-z]+", "a", re.sub(r"\d+", "0", word)))
    pieces = ("^" + low[:_AFFIX], low[-_AFFIX:] + "$", "#" + shape)
    return (_hashed(low, WORDS), *(_hashed(piece, PIECES) for piece in pieces))  # type: ignore[return-value]  # four


def _hashed(text: str, size: int) -> int:
    return 1 + zlib.crc32(text.encode()) % (size - 1)
