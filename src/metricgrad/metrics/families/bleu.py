"""BLEU of numbered words: sacrebleu's corpus BLEU, over 100, for many score sets at a time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.metrics.fast_paths import OfSentences
from metricgrad.metrics.layouts.layout import SENTENCES
from metricgrad.metrics.layouts.sentences import lasting
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

Smoothing = Literal["exp", "add_k", "none"]
_SMOOTHINGS = ("exp", "add_k", "none")
_NEVER, _NOWHERE = -2, -3


def _structure(
    order: int = 4, smooth: Smoothing = "exp", end: int | None = None, unknown: int | None = None
) -> Structure:
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise MetricgradError(f"bleu: order={order!r}; expected a whole number, 1 or more")
    if smooth not in _SMOOTHINGS:
        raise MetricgradError(f"bleu: smooth={smooth!r}; expected one of {', '.join(_SMOOTHINGS)}")
    for name, number in (("end", end), ("unknown", unknown)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise MetricgradError(f"bleu: {name}={number!r}; expected the number of a word, or None")
    return Structure("tokens", "none", {"end": end, "unknown": unknown})


def counts(
    predicted: Tensor,
    targets: Tensor,
    *,
    order: int = 4,
    smooth: Smoothing = "exp",
    end: int | None = None,
    unknown: int | None = None,
) -> Tensor:
    """``(..., 2 + 2 * order)``: words predicted, words in the reference, n-grams found and predicted of each length.

    Args:
        predicted: ``(..., T)`` words; those below 0 match nothing.
        targets: ``(..., T)`` words, -1 for padding.
        order: of the longest n-grams.
        smooth: not read here.
        end: see :func:`bleu`.
        unknown: see :func:`bleu`.

    Cost: O(order T^2) time and memory a sentence.
    """
    answer = lasting(targets, end)
    # without an end token the answer is as long as the reference
    spoken = lasting(predicted, end) if end is not None else answer.expand(predicted.shape)
    if unknown is not None:
        predicted = predicted.masked_fill(predicted == unknown, _NEVER)
    predicted = predicted.masked_fill(~spoken, _NOWHERE)
    wanted = targets.masked_fill(~answer, _NEVER - 2)
    words, length = spoken.sum(-1), answer.sum(-1).expand(predicted.shape[:-1])
    found: list[Tensor] = []
    uttered: list[Tensor] = []
    # equal n-grams that begin at i and j: equal words at i and j, and equal (n-1)-grams at i + 1 and j + 1
    twice, right = predicted[..., :, None] == predicted[..., None, :], predicted[..., :, None] == wanted[..., None, :]
    same, hit, present = twice, right & (predicted >= 0)[..., None], spoken
    earlier = torch.ones(predicted.shape[-1], predicted.shape[-1], dtype=torch.bool, device=predicted.device).tril(-1)
    for n in range(1, order + 1):
        begins = max(predicted.shape[-1] - n + 1, 0)
        if n > 1:
            same = twice[..., :begins, :begins] & same[..., 1:, 1:]
            hit = right[..., :begins, :begins] & hit[..., 1:, 1:]
            present = spoken[..., :begins] & present[..., 1:]
        before = (same & earlier[:begins, :begins]).sum(-1)
        # the reference vouches for an n-gram as often as it has it; the first so many occurrences count
        found.append(((before < hit.sum(-1)) & present).sum(-1))
        uttered.append(present.sum(-1))
    return torch.stack([words, length, *found, *uttered], -1)


def value(
    sums: Tensor,
    *,
    order: int = 4,
    smooth: Smoothing = "exp",
    end: int | None = None,
    unknown: int | None = None,
) -> Tensor:
    """``(...)`` BLEU of ``(..., 2 + 2 * order)`` sums over the corpus; NaN without a word in the reference."""
    sums = wide(sums)
    words, length = sums[..., 0], sums[..., 1]
    found, uttered = sums[..., 2 : 2 + order], sums[..., 2 + order :]
    matched = found.gt(0).any(-1)
    if smooth == "add_k":
        more = (torch.arange(order, device=sums.device) > 0).to(sums)
        found, uttered = found + more, uttered + more
    share = found / uttered.clamp(min=1e-12)
    if smooth == "exp":
        none = (found == 0) & (uttered > 0)
        share = torch.where(none, 0.5 ** none.cumsum(-1) / uttered.clamp(min=1), share)
    brevity = torch.where(words < length, 1 - length / words.clamp(min=1e-12), torch.zeros_like(words)).exp()
    precision = share.clamp(min=1e-300 if share.dtype == torch.float64 else 1e-38).log().mean(-1).exp()
    whole = matched & (share > 0).all(-1)
    return torch.where(length > 0, torch.where(whole, brevity * precision, 0.0), torch.nan)


@register(
    "bleu",
    reads="labels",
    structure=_structure,
    targets="classes",
    layout=SENTENCES,
    fast_path=OfSentences(counts, value),
)
def bleu(
    predicted: Tensor,
    targets: Tensor,
    *,
    order: int = 4,
    smooth: Smoothing = "exp",
    end: int | None = None,
    unknown: int | None = None,
) -> Tensor:
    """Corpus BLEU of the likeliest word at each place, in [0, 1], as sacrebleu's over 100 with words as they are.

    It compares numbers of words; a paper's BLEU is sacrebleu's of detokenised text. It is 0 on a batch without a single
    answer of ``order`` words, however right, and, not smoothed (``"none"``), on most batches of short sentences, so a
    loss has nothing to hold on to there.

    Args:
        predicted: ``(S, N, T)`` words.
        targets: ``(N, T)`` words of one reference each, -1 for padding.
        order: of the longest n-grams.
        smooth: ``"exp"`` (sacrebleu's default: the k-th length of which no n-gram is found counts 2^-k of one),
            ``"add_k"`` (one more found and predicted of every length but the first) or ``"none"``.
        end: number of the word that ends a sentence; an answer goes on to its own end, or to the last place. None:
            an answer is as long as the reference.
        unknown: number of the word that stands for all words out of the vocabulary; it matches nothing.

    References:
        K. Papineni, S. Roukos, T. Ward and W.-J. Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation",
        ACL 2002. M. Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018 (sacrebleu).
    """
    options = {"order": order, "smooth": smooth, "end": end, "unknown": unknown}
    return value(counts(predicted, targets, **options).sum(-2), **options)
