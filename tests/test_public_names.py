"""The public names: listed, lazy, light, and never shadowed by a module."""

import subprocess
import sys
from types import ModuleType

import metricgrad as mg


def test_every_public_name_is_what_it_says_twice_over():
    for _ in range(2):  # importing a submodule must not put the module in the name's place
        for name in set(mg.__all__) - {"decisions", "functional"}:  # modules by design
            assert not isinstance(getattr(mg, name), ModuleType), name


def test_importing_needs_only_the_core():
    code = (
        "import sys, metricgrad as mg; mg.Loss, mg.UniLoss('f1'), mg.as_metric('accuracy');"
        "heavy = {'lightning', 'sklearn', 'torchmetrics', 'optuna', 'scipy', 'pandas', 'typer', 'rich', 'plotly'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_adds_little_to_torch():
    code = (
        "import time; a = time.perf_counter(); import torch; b = time.perf_counter(); import metricgrad;"
        "print((time.perf_counter() - b) / (b - a))"
    )
    shares = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(3)
    ]
    assert min(shares) < 0.1
