"""The examples run and train."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_plain_loop():
    assert runpy.run_path(str(EXAMPLES / "plain_loop.py"))["main"](epochs=3) > 0.75


def test_the_four_systems_train_in_one_loop():
    found = runpy.run_path(str(EXAMPLES / "four_systems.py"))["main"](epochs=4)
    assert set(found) == {"cross-entropy", "UniLoss", "ReLoss", "AdaLFL", "ALA"}
    assert min(found.values()) > 0.75


def test_a_lightning_module_under_automatic_optimisation():
    assert runpy.run_path(str(EXAMPLES / "lightning_module.py"))["main"](epochs=3) > 0.85


def test_torchrun_on_two_processes():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ran = subprocess.run(
        [*command, str(EXAMPLES / "data_parallel.py")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (found,) = re.findall(r"average precision of 2 processes: (\S+)", ran.stdout)
    assert float(found) > 0.7


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("package", "name", "least"), [
    ("accelerate", "accelerate_loop", 0.75), ("skorch", "skorch_net", 0.85), ("torch", "callback_learner", 0.75),
])  # fmt: skip
def test_a_loop_of_another_package(package, name, least):
    pytest.importorskip(package, reason=f"this example is of {package}")
    assert runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](epochs=3) > least


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_hugging_face(tmp_path):
    pytest.importorskip("transformers", reason="this example is of transformers")
    main = runpy.run_path(str(EXAMPLES / "huggingface_trainer.py"))["main"]
    assert main(epochs=1, folder=str(tmp_path)) > 0.6
