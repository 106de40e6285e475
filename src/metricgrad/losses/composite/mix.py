"""Several forms in one: a convex mixture whose weights are knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form, Knob

_LEAST = 1e-6


class Mix(Form):
    r"""A convex mixture of forms, :math:`\sum_k w_k L_k` with :math:`w_k \ge 0` and :math:`\sum_k w_k = 1`.

    Use it to give knobs to forms that have none, or to let a policy choose between losses while training runs: UniLoss
    and cross-entropy, say. The forms' own knobs stay where they are.

    Args:
        forms: two or more.
        weights: where the mixture starts; the same for each by default.

    Cost: that of its forms together.

    Raises:
        MetricgradError: for fewer than two forms, or weights that are no mixture.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.losses.families.classification import ClassificationFamily
        >>> form = Mix([mg.UniLoss("accuracy").form, ClassificationFamily(turns=())], [0.0, 1.0])
        >>> loss, scores, targets = mg.Loss(form), torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> bool(torch.isclose(loss(scores, targets), torch.nn.functional.cross_entropy(scores, targets)))
        True
    """

    kind: ClassVar[str] = "mix"

    def __init__(self, forms: Sequence[Form], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if len(forms) < 2 or not all(isinstance(form, Form) for form in forms):
            raise MetricgradError(
                f"forms are {', '.join(type(form).__name__ for form in forms) or 'none'}; expected two forms or more"
            )
        start = [1 / len(forms)] * len(forms) if weights is None else [float(w) for w in weights]
        if len(start) != len(forms) or min(start) < 0 or not sum(start) > 0:
            raise MetricgradError(f"weights are {weights!r}; expected {len(forms)} numbers from 0 up, not all 0")
        self.forms = nn.ModuleList(forms)
        self.weights = nn.Parameter(torch.tensor(start) / sum(start), requires_grad=False)

    def mixture(self) -> Tensor:
        """The weights as they count, whatever an aligner made of them."""
        weights = self.weights.clamp(min=0)
        return weights / weights.sum().clamp(min=_LEAST)

    def forward(self, scores: Tensor, targets: Tensor, *, call: CallContext, **context: Tensor | None) -> Tensor:
        """0-d. The context goes to every form."""
        values = torch.stack([form(scores, targets, call=call, **context) for form in self.forms])
        return (self.mixture().to(values.dtype) * values).sum()

    @property
    def of_logits(self) -> bool:
        """Where all its forms do."""
        return all(form.of_logits for form in self.forms if isinstance(form, Form))

    def knobs(self) -> Mapping[str, Knob]:
        """``mix_<k>`` for each form."""
        return {f"mix_{k}": Knob(weight, 0.0, 1.0) for k, weight in enumerate(self.weights.detach())}

    @torch.no_grad()
    def project(self) -> None:
        """Weights back to a mixture, the forms' knobs back between their bounds."""
        super().project()
        if float(self.weights.sum()) < _LEAST:
            self.weights.fill_(1.0)
        self.weights.div_(self.weights.sum())
        for form in self.forms:
            assert isinstance(form, Form)
            form.project()

    def config(self) -> dict[str, Any]:
        """Each form as ``[kind, config]``; the weights are in the state."""
        return {"forms": [[form.kind, form.config()] for form in self.forms if isinstance(form, Form)]}
