"""What an import costs, in processes of their own: libraries that are not needed, and time."""

import json
import subprocess
import sys

import pytest

NOT_NEEDED = {
    "torch._dynamo",
    "sympy",
    "lightning",
    "torchmetrics",
    "sklearn",
    "scipy",
    "pandas",
    "optuna",
    "matplotlib",
    "typer",
    "rich",
    "plotly",
}

IMPORT = """
import json, sys, time
start = time.process_time()
import torch
torch_took = time.process_time() - start
before = set(sys.modules)
start = time.process_time()
import metricgrad as mg
alone = time.process_time() - start
mg.UniLoss
took = time.process_time() - start
mg.AdaLFL, mg.ALA, mg.ReLoss, mg.Loss, mg.load_loss, mg.mismatch
mg.UniLoss("f1"), mg.as_metric("accuracy"), mg.as_metric(lambda s, t: 0.0, higher_is_better=True)
mg.as_metric("auroc")(torch.randn(4), torch.arange(4) % 2)
print(json.dumps([alone / torch_took, took / torch_took, sorted(set(sys.modules) - before)]))
"""

COMPILE = """
import sys
import torch
from metricgrad.outside_graphs import outside_graphs

def inner(x):
    traced.append(torch.compiler.is_compiling())
    return 2 * x

@outside_graphs
def doubled(x, *, plus=0.0):
    "Doc."
    return inner(x) + plus

traced, graphs = [], []
x = torch.ones(3)
assert torch.equal(doubled(x, plus=1.0), torch.full((3,), 3.0)) and doubled.__doc__ == "Doc."
assert "torch._dynamo" not in sys.modules, "a call imports the compiler"

def backend(graph, _):
    graphs.append([node.name for node in graph.graph.nodes if node.op.startswith("call")])
    return graph.forward

compiled = torch.compile(lambda x: doubled(x.sin(), plus=1.0).cos(), backend=backend)
for _ in range(3):
    assert torch.equal(compiled(x), (2 * x.sin() + 1).cos())
assert torch.equal(compiled(x + 1), (2 * (x + 1).sin() + 1).cos())
assert graphs == [["sin"], ["cos"]], graphs
assert traced == [False] * 5, traced
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_presets_and_built_in_metrics_import_little_and_quickly():
    for _ in range(3):
        alone, with_a_loss, new = json.loads(run(IMPORT))
        assert not NOT_NEEDED & set(new)
        # a thirtieth where modules are compiled already, and a tenth where all of ours are not; the compiler costs as
        # much as torch itself
        if alone < 0.1 and with_a_loss < 0.3:
            return
    pytest.fail(f"the package takes {alone} of the time of torch, and with a loss {with_a_loss}")


def test_help_and_version_import_no_torch():
    code = "import sys; import metricgrad.cli.main; print('torch' in sys.modules)"
    assert run(code) == "False\n"


def test_a_list_of_tasks_imports_no_torch():
    code = "import sys; from metricgrad.cli.lists import tasks; tasks(); print('torch' in sys.modules)"
    assert run(code).endswith("False\n")


def test_what_is_outside_graphs_imports_no_compiler_and_is_not_compiled():
    run(COMPILE)
