"""Smooth steps of a score difference, closed under differentiation.

Every kernel here is a polynomial in s = sigmoid(z), plus a multiple of softplus(z). Since ds/dz = s - s^2 and
softplus' = s, the derivative of such a kernel is again one, to any order; and since s saturates, every one of them is a
constant or a straight line beyond :data:`REACH`, to float64 precision. Those two facts are all that the sums over pairs
rely on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

REACH = 40.0
"""Beyond this distance a kernel equals its limit: exp(-40) = 4e-18."""


@dataclass(frozen=True)
class Kernel:
    r"""A function of z: :math:`k(z) = a \, \mathrm{softplus}(z) + \sum_m c_m \, \mathrm{sigmoid}(z)^m`.

    Attributes:
        coefficients: c, the constant first; at least one.
        slope: a. The kernel rises with this slope far to the right; 0 for a kernel that saturates.

    Example:
        >>> import torch
        >>> round(float(SIGMOID.derivative()(torch.tensor(0.0))), 6)
        0.25
        >>> SOFTPLUS.derivative() == SIGMOID
        True
    """

    coefficients: tuple[float, ...]
    slope: float = 0.0

    def __call__(self, z: Tensor) -> Tensor:
        """k(z), element by element."""
        return self.of_sigmoid(z.sigmoid(), z)

    def of_sigmoid(self, s: Tensor, z: Tensor) -> Tensor:
        """k(z) where s = sigmoid(z) is at hand; all that kernels have in common."""
        constant, *rest = self.coefficients
        value, factor = s, rest.pop() if rest else 0.0  # what is summed up so far is factor * value
        for coefficient in reversed(rest):
            value, factor = torch.addcmul(s if coefficient == 1 else s * coefficient, value, s, value=factor), 1.0
        if factor != 1:
            value = value * factor
        if constant:
            value = value + constant
        if self.slope:
            # torch's softplus switches to the straight line at 20 and is exact to 2e-9 only; logaddexp has no second
            # derivative far to the left
            value = value.sub(torch.nn.functional.logsigmoid(-z), alpha=self.slope)
        return value

    @property
    def lower(self) -> float:
        """The limit far to the left."""
        return self.coefficients[0]

    @property
    def upper(self) -> float:
        """The limit of k(z) - slope * z far to the right."""
        return float(sum(self.coefficients))

    def derivative(self) -> Kernel:
        """k', a kernel of the same family: s^m becomes m s^m - m s^(m+1)."""
        result = [0.0] * (len(self.coefficients) + 1)
        for power, coefficient in enumerate(self.coefficients):
            result[power] += power * coefficient
            if power:
                result[power + 1] -= power * coefficient
        result[1:2] = [result[1] + self.slope]
        while len(result) > 1 and result[-1] == 0:
            result.pop()
        return Kernel(tuple(result))


SIGMOID = Kernel((0.0, 1.0))
"""sigmoid(z): a soft count of the pairs with z > 0."""

SIGMOID_SQUARED = Kernel((0.0, 0.0, 1.0))
"""sigmoid(z)^2: what squared distances between soft and hard binaries are made of."""

SOFTPLUS = Kernel((0.0,), slope=1.0)
"""log(1 + exp(z)): the logistic loss of a pair."""
