"""Questions with answers marked in a passage, as SQuAD stores them: a JSON of articles, passages and questions."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from tasks.docstring_answers.words import FEATURES, features_of, words_of

Word = tuple[str, int, int]


@dataclass(frozen=True)
class SpanQuestions:
    """Questions, their passages, and where the answers stand.

    Attributes:
        questions: ``(N, Q, 4)`` hashed words (see :mod:`tasks.docstring_answers.words`), 0 beyond the end.
        passages: ``(N, L, 4)`` likewise.
        positions: ``(N, 2)`` the first and last word of each answer.
        mask: ``(N, L)`` where the passage has a word.
        articles: ``(N,)`` the number of the article, from 0: what a split keeps together.
        titles: of the articles.
        ids: of the questions.
        unanswerable: questions left out because they have no answer (SQuAD 2.0).
        beyond: questions left out because their answer ends beyond the L words that were kept.
    """

    questions: Tensor
    passages: Tensor
    positions: Tensor
    mask: Tensor
    articles: Tensor
    titles: tuple[str, ...]
    ids: tuple[str, ...]
    unanswerable: int
    beyond: int

    def __len__(self) -> int:
        return len(self.positions)


def read_squad(
    path: str | Path, *, passage_words: int = 384, question_words: int = 32, limit: int | None = None
) -> SpanQuestions:
    """Questions of a file in the layout of SQuAD 1.1 or 2.0.

    ``data`` is a list of articles with ``title`` and ``paragraphs``; a paragraph has ``context`` and ``qas``; a
    question has ``id``, ``question`` and ``answers`` with ``text`` and ``answer_start``, an offset in characters.
    Where a question has several answers the first one is taken; the official score takes the best of them. Unanswerable
    questions of 2.0 (``is_impossible``, or no answer) are left out and counted. An answer that begins or ends within a
    word takes the whole word.

    Args:
        path: the JSON file, such as ``train-v1.1.json``.
        passage_words: L; longer passages are cut, and questions whose answer is cut off are left out and counted.
        question_words: Q; longer questions are cut.
        limit: no more questions than this, from the first.

    Raises:
        MetricgradError: for a file that cannot be read, another layout, an answer that is not at its offset, or no
            question left.

    Cost: linear in the text; 4 numbers of 8 bytes for each of the N (Q + L) words.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MetricgradError(f"path {path} cannot be read: {error.strerror}; pass a SQuAD JSON file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MetricgradError(f"path {path} is no JSON: {error}") from error
    return parse_squad(
        content, passage_words=passage_words, question_words=question_words, limit=limit, source=str(path)
    )


def parse_squad(
    content: Any,
    *,
    passage_words: int = 384,
    question_words: int = 32,
    limit: int | None = None,
    source: str = "content",
) -> SpanQuestions:
    """The same from what the JSON holds; ``source`` names it in messages."""
    if min(passage_words, question_words) < 1 or (limit is not None and limit < 1):
        raise MetricgradError(
            f"passage_words, question_words, limit are {(passage_words, question_words, limit)}; expected 1 or more"
        )
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise MetricgradError(f"{source} has no list 'data'; expected SQuAD's layout: data, paragraphs, qas, answers")
    hashed = functools.cache(features_of)
    asked: list[tuple[list[Word], list[Word], int, int, int, str]] = []
    titles: list[str] = []
    unanswerable = beyond = 0
    read, words = None, []
    try:
        for number, context, question in _questions(content["data"], titles):
            if limit is not None and len(asked) >= limit:
                break
            if question.get("is_impossible") or not question["answers"]:
                unanswerable += 1
                continue
            if context is not read:
                read, words = context, words_of(context)
            first, last = _span(context, words, question, source)
            if last >= passage_words:
                beyond += 1
                continue
            asked.append((words_of(question["question"]), words, first, last, number, str(question["id"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise MetricgradError(
            f"{source} is not in SQuAD's layout ({type(error).__name__}: {error}); expected data, paragraphs, qas, "
            "answers"
        ) from error
    if not asked:
        raise MetricgradError(
            f"{source} holds no question that can be used: {unanswerable} without an answer, {beyond} with an answer "
            f"beyond passage_words={passage_words}"
        )
    questions = _packed([row[0] for row in asked], question_words, hashed)
    passages = _packed([row[1] for row in asked], passage_words, hashed)
    return SpanQuestions(
        questions, passages, torch.tensor([row[2:4] for row in asked]), passages[..., 0] > 0,
        torch.tensor([row[4] for row in asked]), tuple(titles), tuple(row[5] for row in asked), unanswerable, beyond,
    )  # fmt: skip


def _questions(data: list[Any], titles: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The article's number, the passage and the question, of each; titles are added on the way."""
    for number, article in enumerate(data):
        titles.append(str(article["title"]))
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield number, paragraph["context"], question


def _span(context: str, words: list[Word], question: dict[str, Any], source: str) -> tuple[int, int]:
    """The first and last word of the first answer."""
    answer = question["answers"][0]
    text, start = answer["text"], answer["answer_start"]
    where = f"{source}, question {question['id']!r}"
    if start < 0 or context[start : start + len(text)] != text:
        raise MetricgradError(f"{where}: the answer {text!r} is not at character {start} of its context")
    end = start + len(text)
    inside = [i for i, (_, begins, ends) in enumerate(words) if begins < end and ends > start]
    if not inside:
        raise MetricgradError(f"{where}: the answer {text!r} holds no word; leave the question out")
    return inside[0], inside[-1]


def _packed(texts: list[list[Word]], length: int, hashed: Callable[[str], tuple[int, ...]]) -> Tensor:
    """``(N, length, 4)``."""
    out = torch.zeros(len(texts), length, FEATURES, dtype=torch.long)
    for row, words in enumerate(texts):
        kept = words[:length]
        if kept:
            out[row, : len(kept)] = torch.tensor([hashed(word) for word, _, _ in kept])
    return out
