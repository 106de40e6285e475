"""Lightning under DDP trains on the loss of all rows, and AdaLFL looks through its steps, as in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.integrations import lightning_two_processes

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_as_one_does(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        [*torchrun, "-m", "tests.integrations.lightning_two_processes", str(tmp_path)], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lightning_two_processes.main(str(tmp_path))
    said, _ = started.communicate(timeout=240)
    assert started.returncode == 0, said
    one, two = (json.loads((tmp_path / f"{count}.json").read_text("utf-8")) for count in (1, 2))
    for name, values in one.items():
        for ours, expected in zip(two[name], values, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(expected), rtol=1e-3, atol=1e-4)
