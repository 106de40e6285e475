"""AdaLFL: a loss network that learns while the model trains."""

from __future__ import annotations

from typing import Any, Literal

from metricgrad.aligners.look_ahead import LookAhead
from metricgrad.loss import Loss
from metricgrad.losses.neural import NeuralLoss, Problem


class AdaLFL(Loss):
    """A small network of (target, prediction), moved after every optimiser step by an exact hypergradient.

    Args:
        num_outputs: columns of the scores.
        kind: ``"classification"``, ``"binary"``, ``"multilabel"``, ``"regression"`` or ``"auto"``; see
            :class:`metricgrad.losses.neural.NeuralLoss`.
        output: ``"none"`` or ``"softplus"``.
        seed: of everything random.
        options: keyword arguments of :class:`metricgrad.aligners.look_ahead.LookAhead`: ``objective``, ``lr`` (the
            meta-learning rate), ``clip``, ``every``.

    Example:
        >>> import torch, metricgrad as mg
        >>> model = torch.nn.Linear(4, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x, y = torch.randn(32, 4), torch.arange(32) % 3
        >>> loss = mg.AdaLFL(num_outputs=3)
        >>> handle = loss.attach(model, optimizer, valid=[(x[16:], y[16:])])
        >>> loss(model(x[:16]), y[:16]).backward()
        >>> optimizer.step()
        >>> int(loss.aligner.updates)
        1

    References:
        C. Raymond, Q. Chen, B. Xue and M. Zhang, "Meta-Learning Adaptive Loss Functions", TMLR 2025.
    """

    def __init__(
        self,
        num_outputs: int | None = None,
        kind: Problem = "classification",
        *,
        output: Literal["none", "softplus"] = "none",
        seed: int = 0,
        **options: Any,
    ) -> None:
        form = NeuralLoss(num_outputs, kind, output=output, seed=seed)
        super().__init__(form, LookAhead(seed=seed, **options), seed=seed)
