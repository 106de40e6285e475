"""Words and their numbers: cutting strings into words, a vocabulary, and strings from words again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError

END, UNKNOWN = 0, 1
_WORD = re.compile(r"\w+(?:[-'’.]\w+)*|[^\w\s]")
_TIGHT_BEFORE = frozenset(".,;:!?)]}”»")
_TIGHT_AFTER = frozenset("([{„«")


def tokenise(text: str) -> list[str]:
    """Words (with inner hyphens, apostrophes and points) and single punctuation marks.

    Example:
        >>> tokenise("Save the file's name (v2.1)?")
        ['Save', 'the', "file's", 'name', '(', 'v2.1', ')', '?']
    """
    return _WORD.findall(text)


def detokenise(words: Iterable[str]) -> str:
    """A string of words, with punctuation where one writes it.

    Example:
        >>> detokenise(["save", "(", "now", ")", "?"])
        'save (now)?'
    """
    out = ""
    for word in words:
        tight = not out or word in _TIGHT_BEFORE or out[-1] in _TIGHT_AFTER
        out += word if tight else f" {word}"
    return out


class Vocabulary:
    """The most frequent words, numbered; 0 ends a sentence and 1 stands for every other word.

    Args:
        sentences: lists of words.
        size: numbers in all, the two special ones among them; fewer where there are fewer words.

    Raises:
        MetricgradError: for a size without room for a word.

    Example:
        >>> known = Vocabulary([["open", "file"], ["open", "page"], ["open", "file"]], size=4)
        >>> known.encode([["open", "page", "file"]], length=5).tolist()
        [[2, 1, 3, 0, -1]]
        >>> known.decode([[2, 3, 0, 2]])
        ['open file']
    """

    def __init__(self, sentences: Iterable[Sequence[str]], size: int) -> None:
        if size < 3:
            raise MetricgradError(f"size is {size}; a vocabulary needs 3 or more: the end, the unknown word, and words")
        counts = Counter(word for sentence in sentences for word in sentence)
        # equally frequent words in the order of the alphabet, whatever the order of the sentences
        common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: size - 2]
        self.words = [word for word, _ in common]
        self._number = {word: number for number, word in enumerate(self.words, 2)}

    def __len__(self) -> int:
        """How many numbers."""
        return len(self.words) + 2

    def encode(self, sentences: Iterable[Sequence[str]], length: int) -> Tensor:
        """``(N, length)`` int64: the words, 0 where there is room for it, and -1 after it; longer ones are cut."""
        rows = [[self._number.get(word, UNKNOWN) for word in sentence[:length]] for sentence in sentences]
        padded = [(row + [END] + [-1] * length)[:length] for row in rows]
        return torch.tensor(padded, dtype=torch.long).reshape(-1, length)

    def decode(self, rows: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """A string for each row, up to its end; unknown words show as ⁇."""
        numbers = rows.tolist() if isinstance(rows, Tensor) else rows
        return [detokenise(self._shown(int(n)) for n in _to_end(row)) for row in numbers]

    def _shown(self, number: int) -> str:
        # a number beyond the words a small corpus has is never a target; a model may still say it
        known = 2 <= number < len(self)
        return self.words[number - 2] if known else "⁇"


def _to_end(row: Sequence[int]) -> Sequence[int]:
    stop = next((place for place, number in enumerate(row) if number in (END, -1)), len(row))
    return row[:stop]
