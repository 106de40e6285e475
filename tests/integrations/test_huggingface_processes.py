"""transformers.Trainer in two processes trains on the loss of all rows, as one process does."""

import json

import pytest
import torch

from tests.ranks import launched

pytest.importorskip("transformers", reason="the Hugging Face integration needs transformers")

RUNS = ("sequence-1-3", "token-2-16")  # a kind of batch, how many a step accumulates, rows of a microbatch


@pytest.mark.filterwarnings("ignore:the loss was called on 2 batches")
def test_two_processes_train_as_one_does(tmp_path):
    from tests.integrations import two_processes  # which imports transformers

    with launched(two_processes.main, 2, str(tmp_path), *RUNS):
        two_processes.main(str(tmp_path), *RUNS)
    for run in RUNS:
        one, two = (json.loads((tmp_path / f"{run}-{count}.json").read_text("utf-8")) for count in (1, 2))
        assert two["logged"] == pytest.approx(one["logged"], abs=2e-3)
        torch.testing.assert_close(torch.tensor(two["weights"]), torch.tensor(one["weights"]), rtol=1e-3, atol=1e-4)
