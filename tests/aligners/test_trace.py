"""A few numbers of a large gradient tell what was done to it."""

import pytest
import torch

from metricgrad.aligners.trace import Trace

LARGE = 20_000


def _gradient(dtype=torch.float32, size=LARGE):
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)


def _one_entry(gradient):
    changed = gradient.clone()
    changed[len(gradient) // 2 + 1] *= 1.001  # not one of the entries that are kept of a large gradient
    return changed


def _a_row(gradient):
    changed = gradient.clone().reshape(100, -1)
    changed[31] = 0
    return changed.flatten()


def _most_of_a_row(gradient):
    changed = _a_row(gradient)
    changed[gradient.abs().argmax()] = 0
    return changed


OTHER = {
    "one entry": _one_entry,
    "a row": _a_row,
    "a row and the largest": _most_of_a_row,
    "noise": lambda g: g + 1e-3 * torch.randn_like(g),
    "signs": lambda g: g.sign(),
    "centred": lambda g: g - g.mean(),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, LARGE])
def test_it_knows_the_gradient_again(dtype, size):
    gradient = _gradient(dtype, size)
    trace = Trace.of(gradient)
    assert trace.is_of(gradient.clone())
    assert trace.factor_to(gradient) is None
    assert trace.factor_to(gradient / 4) == pytest.approx(0.25, rel=1e-3)
    assert not trace.is_of(gradient / 4)
    gradient[0] = torch.nan
    assert Trace.of(gradient).is_of(gradient.clone())


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("size", [300, LARGE])
def test_another_change_is_neither_a_factor_nor_a_bound(change, size):
    gradient = _gradient(size=size)
    changed = change(gradient)
    trace = Trace.of(gradient)
    assert not trace.is_of(changed)
    assert trace.factor_to(changed) is None
    assert not trace.was_clamped(changed, float(changed.abs().max()))


@pytest.mark.parametrize("bound", [0.1, 1.0, 3.5])
def test_clamped_values_are_known_by_their_bound(bound):
    gradient = _gradient()
    trace = Trace.of(gradient)
    assert trace.was_clamped(gradient.clamp(-bound, bound), bound)
    assert trace.factor_to(gradient.clamp(-bound, bound)) is None
    assert not trace.was_clamped(gradient.clamp(-bound / 2, bound), bound)
