"""Cosines of all rows: their gradient in closed form, and rows of any length."""

import torch

from metricgrad.functional.cosines import cosines, unit_rows


def draw(n=5, d=3, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()


def test_they_are_differentiable_twice():
    assert torch.autograd.gradcheck(cosines, (draw(),))
    assert torch.autograd.gradgradcheck(cosines, (draw(),))


def test_the_gradient_is_that_of_the_steps():
    rows = draw(dtype=torch.float32)
    weights = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    units = unit_rows(rows.double())
    (expected,) = torch.autograd.grad(((units @ units.mT) * weights).sum(), rows)
    (found,) = torch.autograd.grad((cosines(rows) * weights).sum(), rows)
    torch.testing.assert_close(found, expected)


def test_rows_of_any_length_have_them_and_a_row_of_zeros_none():
    directions = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    lengths = torch.tensor([1e-300, 1e-160, 1.0, 1e160, 1e300], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.8], dtype=torch.float64)
    for length in lengths:
        torch.testing.assert_close(cosines(directions * length)[0], expected)
        torch.testing.assert_close(unit_rows(directions * length)[0], directions[0] / 5)
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    found = cosines(rows)
    assert found[1].tolist() == [0, 0]
    (slope,) = torch.autograd.grad(found.sum(), rows)
    assert slope.isfinite().all()
    assert slope[1].tolist() == [0, 0]
    assert cosines(torch.zeros(2, 0)).tolist() == [[0, 0], [0, 0]]


def test_many_gradients_may_be_asked_for_at_once():
    for dtype in (torch.float32, torch.float64):
        rows = draw(dtype=dtype)
        each, at_once = (
            torch.autograd.functional.jacobian(lambda x: cosines(x).sum(0), rows.detach(), vectorize=vectorize)
            for vectorize in (False, True)
        )
        torch.testing.assert_close(at_once, each)
