"""Probing tells the metrics of scikit-learn and torchmetrics apart, with no look at their code."""

import importlib.util
import sys
from pathlib import Path

import pytest
import sklearn.metrics
import torch

import metricgrad as mg
from metricgrad.refactoring.probing.probe import describe

DOCS = Path(__file__).parents[3] / "docs"


def _table():
    spec = importlib.util.spec_from_file_location("generate_inference_table", DOCS / "generate_inference_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TABLE = _table()


@pytest.fixture(scope="module")
def findings():
    return dict(TABLE.findings())


@pytest.mark.parametrize("case", TABLE.CASES, ids=lambda c: f"{c.name}-{c.source}-{c.data.__name__}")
def test_finds_what_the_metric_reads(case, findings):
    finding = findings[case]
    assert describe(finding.structure) == case.expected, finding.report()
    assert finding.calls <= 60  # the limit is 200; these are far below


def test_the_page_is_up_to_date(findings):
    assert (DOCS / "inference.md").read_text() == TABLE.page(), "run docs/generate_inference_table.py"


@pytest.mark.parametrize(("name", "hint"), [("calibration error", "cross-entropy"), ("MSE", "as_metric('mse')")])
def test_refusals_say_what_to_do(name, hint, findings):
    refused = [f for case, f in findings.items() if case.name == name and case.expected == "nothing"]
    assert refused
    assert all(hint in finding.report() for finding in refused)


def test_log_loss_is_recognised(findings):
    refused = [f for case, f in findings.items() if case.name == "log-loss"]
    assert len(refused) == 3
    assert all("as_metric('log_loss')" in finding.report() for finding in refused)


def test_a_torch_loss_that_wants_one_dtype_is_handed_back_as_itself():
    def huber(scores, targets):
        return torch.nn.functional.huber_loss(scores, targets)

    metric = mg.as_metric(huber, higher_is_better=False, reads="scores")
    scores, targets = torch.randn(40, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 40)
    assert mg.infer_refactoring(metric, scores, targets).name == "differentiable"
    torch.testing.assert_close(mg.UniLoss(metric)(scores, targets), huber(scores, targets))


def test_a_metric_of_real_targets_is_told_of_losses_of_real_targets():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(64, generator=g), torch.randn(64, generator=g)
    with pytest.raises(mg.MetricgradError, match="train with 'mse' or 'mae' and judge by the metric"):
        mg.UniLoss(sklearn.metrics.mean_pinball_loss)(scores.requires_grad_(), targets)
