"""transformers.Trainer in two processes trains on the loss of all rows, as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the Hugging Face integration needs transformers")

ROOT = Path(__file__).parents[2]
RUNS = ("sequence-1-3", "token-2-16")  # a kind of batch, how many a step accumulates, rows of a microbatch


def test_two_processes_train_as_one_does(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [*command, "-m", "tests.integrations.two_processes", str(tmp_path), *RUNS], cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for command in ([sys.executable], torchrun)
    ]  # fmt: skip
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    for run in RUNS:
        one, two = (json.loads((tmp_path / f"{run}-{count}.json").read_text("utf-8")) for count in (1, 2))
        assert two["logged"] == pytest.approx(one["logged"], abs=2e-3)
        torch.testing.assert_close(torch.tensor(two["weights"]), torch.tensor(one["weights"]), rtol=1e-3, atol=1e-4)
