"""A run is the one that was asked for where its data and its first weights say the same bytes, however they lie."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metricgrad.training.run_folder.fingerprints import describe_data, describe_weights


class Holder(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_column_of_a_matrix_is_as_any_other_vector(rows):
    column = torch.randn(4, 5)[:rows, 0]
    assert describe_weights(Holder(column)) == describe_weights(Holder(torch.tensor(column.tolist())))


def test_data_of_half_precision_has_a_checksum():
    inputs, targets = torch.randn(6, 2).bfloat16(), torch.arange(6) % 2
    assert describe_data((inputs, targets)) == describe_data((inputs.clone(), targets))
    assert describe_data((inputs, targets)) != describe_data((inputs + 1, targets))
