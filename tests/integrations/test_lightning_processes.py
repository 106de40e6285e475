"""Lightning under DDP trains on the loss of all rows, and AdaLFL looks through its steps, as in one process."""

import json

import pytest
import torch

from tests.integrations import lightning_two_processes
from tests.ranks import launched


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_as_one_does(tmp_path):
    with launched(lightning_two_processes.main, 2, str(tmp_path)):
        lightning_two_processes.main(str(tmp_path))
    one, two = (json.loads((tmp_path / f"{count}.json").read_text("utf-8")) for count in (1, 2))
    for name, values in one.items():
        for ours, expected in zip(two[name], values, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(expected), rtol=1e-3, atol=1e-4)
