"""A small reader: a question and a passage to start and end scores of the answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from tasks.docstring_answers.words import FEATURES, PIECES, WORDS

BELOW = 20.0
"""How far padding stands below the lowest score of a real word: out of every decoding's reach, and still finite."""


class SpanReader(nn.Module):
    """Word and letter-piece embeddings, which words the question shares, and dilated convolutions over the passage.

    A question is the mean of its words. Each of the passage's words sees its own embedding, whether the question has
    that word, and the question; four residual convolutions of dilation 1, 2, 4 and 8 carry it over 30 words to
    either side. Padding gets a score that is :data:`BELOW` under the lowest of the passage's words.

    Args:
        question_words: Q, where the question ends and the passage begins in the input.
        width: of embeddings and hidden layers.
        dropout: of the embeddings.

    Cost: with a width of 32, 0.3 million weights, nearly all of them embeddings; O(N (Q + L) width^2).

    Raises:
        MetricgradError: for input of another shape.

    References:
        The feature of exact matches is that of D. Chen, A. Fisch, J. Weston and A. Bordes, "Reading Wikipedia to Answer
        Open-Domain Questions", ACL 2017; dilated convolutions in place of their recurrent networks.

    Example:
        >>> words = torch.ones(3, 4 + 10, 4, dtype=torch.long)
        >>> SpanReader(4)(words).shape
        torch.Size([3, 2, 10])
    """

    def __init__(self, question_words: int, *, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.question_words = question_words
        self.words = nn.Embedding(WORDS, width, padding_idx=0)
        self.pieces = nn.Embedding(PIECES, width, padding_idx=0)
        self.shared = nn.Embedding(2, width)
        self.dropout = nn.Dropout(dropout)
        self.question = nn.Linear(width, width)
        self.entry = nn.Conv1d(2 * width, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for dilation in (1, 2, 4, 8)
        )
        self.head = nn.Conv1d(width, 2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(N, Q + L, 4)`` hashed words, 0 where there is none, to ``(N, 2, L)`` start and end scores."""
        if inputs.ndim != 3 or inputs.shape[2] != FEATURES or inputs.shape[1] <= self.question_words:
            raise MetricgradError(
                f"inputs have shape {tuple(inputs.shape)}; expected hashed words (N, {self.question_words} + L, "
                f"{FEATURES}): torch.cat([questions, passages], 1)"
            )
        embedded = self.dropout(self.words(inputs[..., 0]) + self.pieces(inputs[..., 1:]).sum(-2))
        asked, read = inputs[:, : self.question_words, 0], inputs[:, self.question_words :, 0]
        real = read > 0
        shared = (read[:, :, None] == asked[:, None, :]).any(-1) & real
        count = (asked > 0).sum(1, keepdim=True).clamp(min=1)
        question = self.question(embedded[:, : self.question_words].sum(1) / count)
        passage = embedded[:, self.question_words :] + self.shared(shared.long())
        x = torch.cat([passage, question[:, None].expand_as(passage)], -1).transpose(1, 2)
        x = self.entry(x).relu()
        for layer in self.layers:
            x = x + layer(x * real[:, None]).relu()
        scores = self.head(x)
        lowest = scores.detach().masked_fill(~real[:, None], torch.inf).amin(-1, keepdim=True).nan_to_num(posinf=0.0)
        return torch.where(real[:, None], scores, lowest - BELOW)
