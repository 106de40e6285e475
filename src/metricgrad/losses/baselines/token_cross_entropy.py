"""The loss people use today for sentences: cross-entropy of every word."""

from __future__ import annotations

from torch import Tensor

from metricgrad.checks import check_tensor
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.calling import ScoreLoss
from metricgrad.losses.registry import TOKENS, Entry, register
from metricgrad.metrics.layouts.sentences import prepare_sequences


class TokenCrossEntropy(ScoreLoss):
    """The mean negative log-likelihood of the target's words, padding left out.

    Use it first for translation and other sentences. Every word counts alike, wherever it stands, so a right word one
    place off is as wrong as any other; BLEU thinks otherwise.

    Args:
        label_smoothing: from 0 to 1; see :class:`metricgrad.losses.baselines.cross_entropy.CrossEntropy`.

    Cost: O(N T V) time and memory.

    Raises:
        MetricgradError: for other shapes, or an option out of range.

    Example:
        >>> import torch
        >>> scores, targets = torch.zeros(1, 3, 2), torch.tensor([[1, 0, -1]])
        >>> round(float(TokenCrossEntropy()(scores, targets)), 4)
        0.6931
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._words = CrossEntropy(label_smoothing=label_smoothing)
        self.label_smoothing = self._words.label_smoothing

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """0-d, in float32 at least.

        Args:
            scores: ``(N, T, V)`` logits.
            targets: ``(N, T)`` words from 0; -1 is padding, at the end of a sentence.
            context: ``mask``, booleans, False words are padding; ``sample_weight``, numbers from 0 up; both ``(N, T)``,
                or ``(N,)`` for whole sentences.
        """
        check_tensor("scores", scores)
        stack, words, given = prepare_sequences(
            scores[None], targets, context, takes=("sample_weight",), name=type(self).__name__
        )
        return self._words(stack[0], words.clamp(min=0), mask=words >= 0, **given)

    def extra_repr(self) -> str:
        """Its setting."""
        return f"label_smoothing={self.label_smoothing:g}"


register(
    "token_cross_entropy",
    Entry(
        TokenCrossEntropy,
        TOKENS,
        "log-likelihood of every word of a sentence; label_smoothing=0.1",
        standard=True,
    ),
)
