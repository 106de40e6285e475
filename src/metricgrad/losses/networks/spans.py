"""A learned loss of answer spans: start and end scores over the tokens of a passage."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from metricgrad.checks import check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.mlp import MeanAboveZero
from metricgrad.losses.networks.reader import Reader
from metricgrad.metrics.context import checked_context

_WIDTH = 64
_READINGS = 5


class SpanNetwork(NetworkForm):
    r"""A learned function of how likely the true start and end are, and of how much of the true span is covered.

    .. math:: \frac{c}{N} \sum_i f_\theta\bigl(1 - p^s_i, -\log p^s_i, 1 - p^e_i, -\log p^e_i, 1 - F_i\bigr)

    p are the softmax probabilities of the true start and end, and F is the soft F1 of tokens: a token is covered with
    probability P(start <= t) P(end >= t). f never falls where one of its inputs grows, and is 0 at zeros.

    It can express exact match and the overlap of tokens by position, averaged over passages. It cannot express what
    depends on which words the tokens are (several right answers, BLEU, ROUGE of the text) or on several passages at
    once.

    Args:
        seed: of the first weights.

    Cost: O(N L) for N passages of L tokens and 4,500 multiplications a passage.

    Raises:
        MetricgradError: for scores that are not ``(N, 2, L)``, positions outside the passage, or a context other than
            ``mask``.

    Example:
        >>> import torch
        >>> from metricgrad.losses.base import CallContext
        >>> form, targets = SpanNetwork(), torch.tensor([[1, 2]])
        >>> right = torch.tensor([[[0.0, 4, 0, 0], [0, 0, 4, 0]]])
        >>> bool(form(-right, targets, call=CallContext(0, 0)) > form(right, targets, call=CallContext(0, 0)))
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022, section on machine reading comprehension. The
        soft overlap and the monotone network are ours.
    """

    kind: ClassVar[str] = "span_network"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(SpanReader(), MeanAboveZero([_READINGS, _WIDTH, _WIDTH, 1]), seed=seed)


class SpanReader(Reader):
    """Reads the probabilities of the true ends, and the tokens covered."""

    def read(self, scores: Tensor, targets: Tensor, mask: Tensor | None, who: str) -> tuple[Tensor, Tensor]:
        """``(N, 2, L)`` start and end scores, and ``(N, 2)`` positions; a mask ``(N,)`` leaves passages out."""
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        if scores.ndim != 3 or scores.shape[1] != 2 or targets.shape != scores.shape[:2]:
            raise MetricgradError(
                f"scores have shape {tuple(scores.shape)} and targets {tuple(targets.shape)}; expected (N, 2, L) start "
                "and end scores, as torch.stack([start, end], 1), and (N, 2) positions"
            )
        mask, _ = checked_context({"mask": mask}, targets.shape[:1], targets.device, takes=(), who=who)
        if mask is not None:
            scores, targets = scores[mask], targets[mask]
        if targets.numel() and not bool(((targets >= 0) & (targets < scores.shape[2])).all()):
            raise MetricgradError(f"targets are not all positions 0 to {scores.shape[2] - 1}; mask other passages out")
        wide = scores.dtype if scores.dtype in (torch.float32, torch.float64) else torch.float32
        return scores.to(wide), targets.long()

    def readings(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """``(B, N, 5)``, all 0 where the true span is certain."""
        log_p = scores.log_softmax(-1)
        right = log_p.gather(-1, targets[..., None])[..., 0]
        return (torch.cat([-torch.expm1(right), -right, 1 - _overlap(log_p.exp(), targets)[..., None]], -1),)

    def standard(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of starts and ends."""
        scores, targets = self.read(scores, targets, None, "cross-entropy")
        return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def _overlap(p: Tensor, targets: Tensor) -> Tensor:
    """``(B, N)``: soft F1 of the tokens covered, 1 where they are those of the true span."""
    started = p[..., 0, :].cumsum(-1)
    not_ended = p[..., 1, :].flip(-1).cumsum(-1).flip(-1)
    covered = started * not_ended
    token = torch.arange(p.shape[-1], device=p.device)
    true = ((token >= targets[..., :1]) & (token <= targets[..., 1:])).to(p)
    return 2 * (covered * true).sum(-1) / (covered.sum(-1) + true.sum(-1)).clamp(min=1e-6)
