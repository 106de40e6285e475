"""A function of lists of one length, for lists of any."""

import torch

from metricgrad.functional.by_group import by_group


def test_every_group_is_seen_whole_in_the_order_of_its_rows_and_answers_come_in_the_order_of_numbers():
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(12, (60,), generator=generator) * 7 - 20
    values, weights = torch.randn(60, 2, generator=generator), torch.rand(60, generator=generator)
    numbers, found = by_group(lambda v, w: (v[..., 0] * w).cumsum(1).square().sum(1), groups, values, weights)
    assert numbers.tolist() == sorted(set(groups.tolist()))
    for number, value in zip(numbers.tolist(), found, strict=True):
        rows = groups == number
        torch.testing.assert_close(value, (values[rows, 0] * weights[rows]).cumsum(0).square().sum())
