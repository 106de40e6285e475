"""ReLoss's form for translation: a small Transformer over the scores of a sentence's target tokens."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.mlp import MLP
from metricgrad.losses.networks.reader import Reader
from metricgrad.metrics.context import checked_context

_WIDTH = 16
_HEADS = 2
_LAYERS = 2


class TokenNetwork(NetworkForm):
    r"""A learned function of how likely each target token is, given how likely its neighbours are.

    .. math:: c \cdot \underset{i, t}{\mathrm{mean}} \; \mathrm{softplus}\bigl(
        w \cdot E_\theta(u_{i1}, \dots, u_{iT})_t \bigr) \cdot \bigl(1 - p_{it} - \tfrac14\log p_{it}\bigr)

    p is the softmax probability of the target token, u its reading plus a learned position, E two Transformer encoder
    layers; padding is left out of attention and mean.

    It can express that runs of right tokens count more than single ones (n-grams), and that some positions count more.
    It cannot express what depends on which words were said instead, on re-ordered translations, or on corpus totals
    (BLEU's brevity penalty); sentences longer than ``positions`` share the last position.

    Args:
        positions: how many learned positions there are.
        seed: of the first weights.

    Cost: O(N (T V + T^2)) time and memory for N sentences of T tokens and V words.

    Raises:
        MetricgradError: for shapes that do not fit, tokens out of range, or a context other than ``mask``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, targets = TokenNetwork(), torch.tensor([[0, 2, 1]])
        >>> right = 5.0 * torch.nn.functional.one_hot(targets, 4)
        >>> bool(form(-right, targets, call=CallContext(0, 0)) > form(right, targets, call=CallContext(0, 0)))
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, section on translation. Deviations: the
        network's output is a positive weight on how unlikely the token is, where the paper takes it as it is, so a
        perfect sentence costs 0 whatever was learned; layers are written out, so that their gradients can be
        differentiated again.
    """

    kind: ClassVar[str] = "token_network"

    def __init__(self, *, positions: int = 128, seed: int = 0) -> None:
        if positions < 1:
            raise MetricgradError(f"positions is {positions}; expected 1 or more")
        super().__init__(TokenReader(), TokenEncoder(positions), seed=seed, positions=positions)


class TokenReader(Reader):
    """Reads the probability of each target token."""

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N, T, V)`` scores and ``(N, T)`` tokens, -1 for padding, which any number below 0 is in the targets.

        Args:
            scores: ``(N, T, V)`` logits; ``(N, V)`` are sentences of one token.
            targets: ``(N, T)`` tokens from 0; below 0 is padding, as for the metrics of sentences.
            mask: boolean, shaped like the targets; False tokens are padding.
            who: reads them.
        """
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        if scores.ndim not in (2, 3) or targets.shape != scores.shape[:-1]:
            raise MetricgradError(
                f"scores have shape {tuple(scores.shape)} and targets {tuple(targets.shape)}; expected (N, T, V) "
                "scores of the words at each place, and (N, T) tokens"
            )
        targets = targets.long().clamp(min=-1)
        if mask is not None:
            mask, _ = checked_context({"mask": mask}, targets.shape, targets.device, takes=(), who=who)
            targets = targets if mask is None else targets.masked_fill(~mask, -1)
        if scores.ndim == 2:
            scores, targets = scores[:, None], targets[:, None]
        if targets.numel() and int(targets.max()) >= scores.shape[-1]:
            raise MetricgradError(f"targets are not all tokens 0 to {scores.shape[-1] - 1}, or below 0 for padding")
        wide = scores.dtype if scores.dtype in (torch.float32, torch.float64) else torch.float32
        return scores.to(wide), targets

    def condensed(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, T, 2)`` logits of two words, right or not: all that is read of a word is its target's probability."""
        log_p = scores.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        # a float's certainty is not certain: the other word keeps a probability that its logarithm can show
        log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
        return torch.stack([log_p, torch.log(-torch.expm1(log_p))], -1), targets.clamp(max=0)

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, N, T, 2)`` how unlikely each token is, and ``(B, N, T)`` booleans, False for padding."""
        log_p = scores.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return torch.stack([-torch.expm1(log_p), -log_p / 4], -1), targets >= 0

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the tokens that are no padding."""
        scores, targets = self.read(scores, targets, None, "cross-entropy")
        total = nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
        return total / (targets >= 0).sum().clamp(min=1)


class TokenEncoder(nn.Module):
    """Transformer layers that weigh how unlikely each token is by how unlikely its neighbours are.

    Args:
        positions: how many learned positions there are.
    """

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.count = positions
        self.embed = MLP([2, _WIDTH], monotone=False)
        self.positions = MLP([positions, _WIDTH], monotone=False)
        self.mixing = nn.ModuleList(MLP([_WIDTH, 3 * _WIDTH], monotone=False) for _ in range(_LAYERS))
        self.hidden = nn.ModuleList(MLP([_WIDTH, 2 * _WIDTH, _WIDTH], monotone=False) for _ in range(_LAYERS))
        self.head = MLP([_WIDTH, 1], monotone=False)

    def forward(self, wrong: Tensor, kept: Tensor) -> Tensor:
        """``(B,)``, non-negative: the mean over the tokens kept."""
        place = torch.arange(kept.shape[-1], device=kept.device).clamp(max=self.count - 1)
        x = self.embed(wrong) + self.positions(nn.functional.one_hot(place, self.count).to(wrong))
        for mixing, hidden in zip(self.mixing, self.hidden, strict=True):
            x = x + _attended(mixing(_normal(x)), kept)
            x = x + hidden(_normal(x))
        each = nn.functional.softplus(self.head(_normal(x))[..., 0]) * wrong.sum(-1) * kept
        return each.sum((-1, -2)) / kept.sum((-1, -2)).clamp(min=1)


def _normal(x: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:])


def _attended(mixed: Tensor, kept: Tensor) -> Tensor:
    """Attention over the tokens kept; plain products, because the fused kernels have no second derivative."""
    q, k, v = (part.unflatten(-1, (_HEADS, -1)).transpose(-3, -2) for part in mixed.chunk(3, -1))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    logits = logits.masked_fill(~kept[..., None, None, :], torch.finfo(logits.dtype).min)
    return (logits.softmax(-1) @ v).transpose(-3, -2).flatten(-2)
